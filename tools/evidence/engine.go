package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// Engine is the part of an engine that evidence asks.
type Engine interface {
	Name() string
	Info(context.Context) (engine.Info, error)
	Containers(ctx context.Context, labels ...string) ([]engine.Container, error)
	Exec(ctx context.Context, container string, r engine.ExecRequest) error
}

// OfEngine takes engine info, container states and the engine's last events.
func OfEngine(e Engine) []Item {
	return []Item{
		{"engine info", func(ctx context.Context, to *Folder) error {
			info, err := e.Info(ctx)
			return errors.Join(err, writeJSON(to, "engine-info.json", info, err))
		}},
		{"containers", func(ctx context.Context, to *Folder) error {
			found, err := e.Containers(ctx)
			return errors.Join(err, writeJSON(to, "containers.json", found, err))
		}},
		{"engine events", func(ctx context.Context, to *Folder) error {
			return events(ctx, e.Name(), to)
		}},
	}
}

func writeJSON(to *Folder, name string, v any, err error) error {
	if err != nil {
		return nil // there is nothing to write
	}
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return to.Write(name, append(raw, '\n'))
}

// events asks the engine's command, as the events of both engines' APIs are
// streams. What was printed until time was up is kept.
func events(ctx context.Context, provider string, to *Folder) error {
	args := []string{"events", "--since", "15m", "--until", "0s"}
	if provider == engine.Podman {
		args = []string{"events", "--since", "15m", "--stream=false"}
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	out, err := command.Run(ctx, command.Command{Name: provider, Args: args, Grace: time.Second})
	if out != "" {
		err = errors.Join(err, to.Write("engine-events.txt", []byte(out)))
	}
	return err
}

// OfNodes takes each node's disks, processes and images.
func OfNodes(e Engine, nodes []string) []Item {
	const script = `df -h; echo; df -i /var; echo; ps -eo pid,ppid,stat,etime,args; echo; crictl images 2>&1; echo; crictl ps -a 2>&1`
	items := make([]Item, 0, len(nodes))
	for _, node := range nodes {
		items = append(items, Item{"node " + node, func(ctx context.Context, to *Folder) error {
			var out bytes.Buffer
			err := e.Exec(ctx, node, engine.ExecRequest{Cmd: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
			if out.Len() > 0 {
				err = errors.Join(err, to.Write("node-"+node+".txt", out.Bytes()))
			}
			return err
		}})
	}
	return items
}

// OfKind takes what `kind export logs` gives. export writes below a folder and
// may go on after its context has ended; its files are cut to size afterwards.
func OfKind(export func(ctx context.Context, dir string) error) Item {
	return Item{"kind export logs", func(ctx context.Context, to *Folder) error {
		dir := filepath.Join(to.Path, "nodes")
		err := export(ctx, dir)
		return errors.Join(err, to.trim(dir))
	}}
}

// trim keeps the end of each file below dir, and removes what the collection
// has no room for.
func (f *Folder) trim(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size := info.Size()
		if size > fileBytes {
			if err := keepEnd(path, size); err != nil {
				return err
			}
			size = fileBytes
		}
		if f.left.Add(-size) < 0 {
			return os.Remove(path)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func keepEnd(path string, size int64) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	end := make([]byte, fileBytes)
	if _, err := in.ReadAt(end, size-fileBytes); err != nil {
		return fmt.Errorf("cut %s: %w", path, err)
	}
	return os.WriteFile(path, end, 0o644)
}
