package payload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// digest is a digest of everything a layer would hold: names, modes, times, content.
func digest(t *testing.T, root string) (sum string, size int64) {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		fmt.Fprintln(h, name, info.Mode(), info.ModTime().UnixNano())
		if info.IsDir() {
			return nil
		}
		size += info.Size()
		content, err := os.ReadFile(path)
		h.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil)), size
}

func TestWriteIsDeterministicAndOfTheRightSize(t *testing.T) {
	for layer := range Layers {
		var sums []string
		for range 2 {
			root := filepath.Join(t.TempDir(), "opt", "payload")
			w, err := Write(t.Context(), root, 20, layer)
			if err != nil {
				t.Fatal(err)
			}
			sum, size := digest(t, root)
			if size != Size(20, layer) || w.Bytes != size || w.Packages == 0 {
				t.Errorf("layer %d: %d bytes on disk, %+v said, want %d", layer, size, w, Size(20, layer))
			}
			sums = append(sums, sum)
		}
		if sums[0] != sums[1] {
			t.Errorf("layer %d differs between two runs", layer)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, megabytes := range []int{1, 5, 20, 300, 2100} {
		var total int64
		for layer := range Layers {
			total += Size(megabytes, layer)
		}
		if want := int64(megabytes) << 20; total != want {
			t.Errorf("%d MB: layers add up to %d, want %d", megabytes, total, want)
		}
	}
	if large, middle, small := Size(2100, 0)>>20, Size(2100, 1)>>20, Size(2100, 2)>>20; large < 1650 || middle < 300 || small != 3 {
		t.Errorf("the incident's image has layers of %d, %d and %d MB", large, middle, small)
	}
}

func TestNothingIsWritten(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx              context.Context
		megabytes, layer int
		fails            bool
	}{
		"no payload": {t.Context(), 0, 0, false}, "negative": {t.Context(), -1, 0, true}, "too much": {t.Context(), MaxMegabytes + 1, 0, true},
		"no such layer": {t.Context(), 1, Layers, true}, "cancelled": {ended, 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "payload")
			w, err := Write(c.ctx, root, c.megabytes, c.layer)
			if (err != nil) != c.fails || w.Files != 0 {
				t.Errorf("got %+v, %v", w, err)
			}
			if _, err := os.Stat(root); c.megabytes <= 0 && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder exists: %v", err)
			}
		})
	}
}
