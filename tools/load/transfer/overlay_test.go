package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func layerOf(t *testing.T, entries ...*tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, hdr := range entries {
		if err := tw.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(make([]byte, hdr.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func scanned(data []byte, want digest.Digest) (*overlay, error) {
	s := newScan()
	for part := range slices.Chunk(data, 100) {
		if _, err := s.Write(part); err != nil {
			return nil, err
		}
	}
	return s.result(want)
}

func dir(name string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o1777}
}

func file(name string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: 700}
}

func TestOverlay(t *testing.T) {
	for _, tc := range []struct {
		name     string
		entries  []*tar.Header
		patch    string // its entries; "!" behind a folder that is opaque
		implicit string
	}{
		{"nothing hidden", []*tar.Header{dir("./"), dir("a/"), file("a/f")}, "", ""},
		{"a file is gone", []*tar.Header{dir("a/"), file("a/.wh.f"), file("a/g")}, "./a ./a/f", ""},
		{"a file of the root is gone", []*tar.Header{file(".wh.f")}, "./f", ""},
		{"a folder hides all", []*tar.Header{dir("a/"), file("a/.wh..wh..opq"), file("a/f")}, "./a!", ""},
		{"AUFS's own", []*tar.Header{dir("a/"), file("a/.wh..wh.plnk")}, "", ""},
		{"folders not described", []*tar.Header{file("a/b/f"), dir("c/d/"), file("e/.wh.f"), dir("a/b/")}, "./e/f", "a c e"},
		{"named from the root", []*tar.Header{dir("/a/"), file("/a/.wh.f")}, "./a ./a/f", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := layerOf(t, tc.entries...)
			o, err := scanned(data, digest.FromBytes(data))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			tr := tar.NewReader(bytes.NewReader(o.patch))
			for len(o.patch) > 0 {
				hdr, err := tr.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				name := hdr.Name
				switch {
				case hdr.Typeflag == tar.TypeDir && hdr.Mode != 0o1777:
					t.Errorf("%s has mode %o", name, hdr.Mode)
				case hdr.Typeflag == tar.TypeDir && hdr.PAXRecords[opaqueOverlay] == "y":
					name += "!"
				case hdr.Typeflag == tar.TypeChar && (hdr.Devmajor != 0 || hdr.Devminor != 0):
					t.Errorf("%s is device %d/%d", name, hdr.Devmajor, hdr.Devminor)
				}
				got = append(got, name)
			}
			if p := strings.Join(got, " "); p != tc.patch {
				t.Errorf("patch %q, not %q", p, tc.patch)
			}
			if i := strings.Join(o.implicit, " "); i != tc.implicit {
				t.Errorf("implicit %q, not %q", i, tc.implicit)
			}
		})
	}
}

func TestLayersThatCannotBeUnpacked(t *testing.T) {
	good := layerOf(t, dir("a/"))
	undescribed := layerOf(t, file("a/.wh..wh..opq"))
	text := bytes.Repeat([]byte("no archive "), 100)
	for want, tc := range map[string]struct {
		data []byte
		as   digest.Digest
	}{
		"has digest":       {good, digest.FromString("another")},
		"read the layer":   {text, digest.FromBytes(text)},
		"is not described": {undescribed, digest.FromBytes(undescribed)},
	} {
		if _, err := scanned(tc.data, tc.as); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, without %q", err, want)
		}
	}
}
