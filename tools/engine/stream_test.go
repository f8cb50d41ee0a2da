package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

func archive(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range names {
		body := bytes.Repeat([]byte("layer"), 3000)
		if n == "zeroes.tar" {
			body = make([]byte, 1<<14)
		}
		if n == "manifest.json" {
			body = []byte(`[{"Config":"config.json","RepoTags":["x:y"],"Layers":["a.tar","zeroes.tar"]}]`)
		}
		if err := w.WriteHeader(&tar.Header{Name: n, Size: int64(len(body)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCopyArchiveTellsEveryTruncation(t *testing.T) {
	whole := archive(t, "a.tar", "zeroes.tar", "config.json", "manifest.json")
	var out bytes.Buffer
	if err := copyArchive(&out, bytes.NewReader(whole)); err != nil || !bytes.Equal(out.Bytes(), whole) {
		t.Fatalf("a whole archive: %v", err)
	}
	for n := 0; n < len(whole); n += 97 {
		if err := copyArchive(io.Discard, bytes.NewReader(whole[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	if err := copyArchive(io.Discard, bytes.NewReader(whole[:len(whole)-1])); err == nil {
		t.Error("one byte short, and no error")
	}
}

func TestCopyArchiveMissesWhatTheManifestNames(t *testing.T) {
	for _, missing := range []string{"a.tar", "config.json"} {
		var names []string
		for _, n := range []string{"a.tar", "zeroes.tar", "config.json", "manifest.json"} {
			if n != missing {
				names = append(names, n)
			}
		}
		if err := copyArchive(io.Discard, bytes.NewReader(archive(t, names...))); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

func TestCopyArchiveKeepsTheWritersError(t *testing.T) {
	full := errors.New("disk full")
	err := copyArchive(failingWriter{full}, bytes.NewReader(archive(t, "manifest.json")))
	if !errors.Is(err, full) {
		t.Error(err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestCopyLogs(t *testing.T) {
	framed := append(frame(1, "out\n"), frame(2, "err\n")...)
	for in, want := range map[string]string{
		string(framed): "out\nerr\n", "raw terminal output\n": "raw terminal output\n", "short": "short", "": "",
	} {
		var out bytes.Buffer
		if err := copyLogs(strings.NewReader(in), &out); err != nil || out.String() != want {
			t.Errorf("copyLogs(%q) = %q, %v", in, out.String(), err)
		}
	}
}

func TestBuildStream(t *testing.T) {
	tests := []struct {
		name, stream string
		class        failure.Class // empty: no failure
		says         []string
	}{
		{"well", `{"stream":"STEP 1/1: FROM scratch\n"}{"stream":"done\n"}`, "", nil},
		{"step", `{"stream":"STEP 2/2: RUN false\n"}{"stream":"last wo"}{"stream":"rds\n"}{"error":"building at STEP \"RUN false\": while running runtime: exit status 1"}`,
			failure.TestFailure, []string{"RUN false", "last words"}},
		{"a step that prints network errors", `{"stream":"dial tcp 1.2.3.4: connection refused\n"}{"error":"building at STEP \"RUN go test\": while running runtime: exit status 1"}`,
			failure.TestFailure, []string{"connection refused"}},
		{"docker", `{"stream":"Step 2/2 : RUN x"}{"stream":"\n"}{"errorDetail":{"code":2,"message":"The command returned a non-zero code: 2"},"error":"The command returned a non-zero code: 2"}`,
			failure.TestFailure, []string{"Step 2/2 : RUN x"}},
		{"full disk in the engine", `{"error":"writing blob: write /var/tmp/x: no space left on device"}`, failure.Resources, nil},
		{"full disk in a step", `{"stream":"dd: error writing: No space left on device\n"}{"error":"building at STEP \"RUN dd\": exit status 1"}`, failure.Resources, nil},
		{"no registry", `{"error":"creating build container: initializing source docker://quay.io/a:b: pinging container registry quay.io: Get \"https://quay.io/v2/\": dial tcp: lookup quay.io: no such host"}`, failure.Network, nil},
		{"no such base", `{"error":"creating build container: initializing source docker://quay.io/a:b: reading manifest b in quay.io/a: manifest unknown"}`, failure.ImageReference, nil},
		{"runtime", `{"stream":"error running container: from /usr/bin/crun creating container for [/bin/sh]: setrlimit RLIMIT_NOFILE: Operation not permitted\n"}{"error":"building at STEP \"RUN x\": while running runtime: exit status 1"}`, failure.EngineBroken, nil},
		{"cut", `{"stream":"STEP 1/2"}{"stre`, failure.EngineConnection, nil},
	}
	a := address{provider: Podman, url: "unix:///x"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := a.finishBuild(t.Context(), BuildRequest{Tag: "localhost/x:y"}, strings.NewReader(tt.stream), nil)
			got := failure.As(err)
			if (got == nil) != (tt.class == "") || (got != nil && got.Class != tt.class) {
				t.Fatalf("want %q: %v", tt.class, err)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q is not in: %v", s, err)
				}
			}
		})
	}
}
