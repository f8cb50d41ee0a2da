package evidence

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestWhatIsThereInTimeIsKept(t *testing.T) {
	root := t.TempDir()
	began := time.Now()
	err := Collect(t.Context(), Request{Root: root, Name: "01-load", Limit: 200 * time.Millisecond, Items: []Item{
		{"quick", func(_ context.Context, to *Folder) error { return to.Write("pods/quick.txt", []byte("here")) }},
		{"broken", func(context.Context, *Folder) error { return errors.New("engine is gone") }},
		{"slow", func(ctx context.Context, to *Folder) error {
			err := to.Write("slow-1.txt", []byte("a part"))
			<-ctx.Done()
			return errors.Join(err, ctx.Err())
		}},
		{"deaf", func(context.Context, *Folder) error { select {} }},
	}})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if read(t, root, "01-load", "pods", "quick.txt") != "here" || read(t, root, "01-load", "slow-1.txt") != "a part" {
		t.Error("a file is not what was written")
	}
	said := read(t, root, "errors.txt")
	for _, want := range []string{"01-load: broken: engine is gone", "slow: not had within 200ms", "deaf: not had within 200ms"} {
		if !strings.Contains(said, want) || err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(want, "01-load: ")) {
			t.Errorf("errors.txt does not say %q:\n%s\n%v", want, said, err)
		}
	}
}

func TestSizeIsBounded(t *testing.T) {
	root := t.TempDir()
	big := bytes.Repeat([]byte("x"), fileBytes+5)
	big[len(big)-1] = 'E'
	err := Collect(t.Context(), Request{Root: root, Name: "one", Bytes: fileBytes * 3 / 2, Items: []Item{
		{"big", func(_ context.Context, to *Folder) error {
			return errors.Join(to.Write("first", big), to.Write("second", big))
		}},
	}})
	if err == nil || !strings.Contains(err.Error(), "second is left out") {
		t.Errorf("error %v", err)
	}
	got := read(t, root, "one", "first")
	if len(got) > fileBytes+100 || !strings.HasSuffix(got, "xE") || !strings.HasPrefix(got, "[5 bytes left out]") {
		t.Errorf("%d bytes, %q…", len(got), got[:30])
	}
	if _, err := os.Stat(filepath.Join(root, "one", "second")); err == nil {
		t.Error("the second file is there")
	}
}

func TestExportedLogsAreCutToSize(t *testing.T) {
	root := t.TempDir()
	err := Collect(t.Context(), Request{Root: root, Name: "one", Bytes: fileBytes + 100, Items: []Item{
		OfKind(func(_ context.Context, dir string) error {
			if err := os.MkdirAll(filepath.Join(dir, "node"), 0o755); err != nil {
				return err
			}
			return errors.Join(
				os.WriteFile(filepath.Join(dir, "node", "a-journal.log"), bytes.Repeat([]byte("j"), 2*fileBytes), 0o600),
				os.WriteFile(filepath.Join(dir, "node", "b-big.log"), bytes.Repeat([]byte("k"), fileBytes), 0o600),
				errors.New("one of the nodes is gone"))
		}),
	}})
	if err == nil || !strings.Contains(err.Error(), "one of the nodes is gone") {
		t.Errorf("error %v", err)
	}
	if got := read(t, root, "one", "nodes", "node", "a-journal.log"); len(got) != fileBytes {
		t.Errorf("%d bytes", len(got))
	}
	if _, err := os.Stat(filepath.Join(root, "one", "nodes", "node", "b-big.log")); err == nil {
		t.Error("what has no room is kept")
	}
}
