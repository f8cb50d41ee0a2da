package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// setUpVolume makes the folder of a new volume, writable by every user because
// the pod's is not known yet.
func setUpVolume(dir string) error {
	if err := checkVolume(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("make volume %q: %w", dir, err)
	}
	// The mode given to MkdirAll is cut by the umask.
	if err := os.Chmod(dir, 0o777); err != nil {
		return fmt.Errorf("open volume %q to every user: %w", dir, err)
	}
	return nil
}

func tearDownVolume(dir string) error {
	if err := checkVolume(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove volume %q: %w", dir, err)
	}
	return nil
}

// checkVolume refuses what would make or delete more than one volume's folder.
func checkVolume(dir string) error {
	if dir == "" {
		return errors.New("VOL_DIR is not set: the provisioner names the volume's folder there")
	}
	if clean := filepath.Clean(dir); !filepath.IsAbs(clean) || filepath.Dir(clean) == "/" {
		return fmt.Errorf("VOL_DIR=%q is not a folder below the provisioner's own", dir)
	}
	return nil
}
