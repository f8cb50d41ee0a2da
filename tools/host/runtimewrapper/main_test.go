package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

const allButResource = 0x1fffeffffff

func TestLimit(t *testing.T) {
	const doc = `{"ociVersion":"1.0.2","big":18446744073709551615,"process":{"capabilities":{"bounding":["CAP_KILL","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE","CAP_NEW_ONE"],"ambient":null},"args":["sh"]}}`
	out, err := limit([]byte(doc), allButResource, "process")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Big     json.Number
		Process struct {
			Capabilities map[string][]string
			Args         []string
		}
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"bounding": {"CAP_KILL"}, "effective": {"CAP_NEW_ONE"}, "ambient": nil}
	if !reflect.DeepEqual(got.Process.Capabilities, want) || got.Big != "18446744073709551615" || len(got.Process.Args) != 1 {
		t.Errorf("got %s", out)
	}
	for name, same := range map[string]string{"nothing to remove": `{"process":{"capabilities":{"bounding":["CAP_KILL"]}}}`, "no process": `{}`} {
		if out, err := limit([]byte(same), allButResource, "process"); err != nil || out != nil {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
	if _, err := limit([]byte(`{`), allButResource); err == nil {
		t.Error("a torn document was accepted")
	}
}

func TestEditKeepsTheFileOtherwise(t *testing.T) {
	file := filepath.Join(t.TempDir(), "process")
	if err := os.WriteFile(file, []byte(`{"capabilities":{"bounding":["CAP_SYS_RESOURCE"]}}`), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := edit(file, allButResource); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	info, statErr := os.Stat(file)
	if err != nil || statErr != nil || string(data) != `{"capabilities":{"bounding":[]}}` || info.Mode().Perm() != 0o640 {
		t.Errorf("got %s, %v, %v", data, info.Mode(), err)
	}
}

func TestFlag(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--root", "/r", "create", "--bundle", "/b", "id"}, "/b"},
		{[]string{"create", "--bundle=/b", "id"}, "/b"},
		{[]string{"create", "-b", "/b"}, "/b"},
		{[]string{"create", "--bundle"}, ""},
		{[]string{"create", "id"}, ""},
	}
	for _, tt := range tests {
		if got := flag(tt.args, "--bundle", "-b"); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestBounding(t *testing.T) {
	if got, err := bounding("Name:\tx\nCapBnd:\t000001fffeffffff\n"); err != nil || got != allButResource {
		t.Errorf("got %x, %v", got, err)
	}
	if _, err := bounding("Name: x\n"); err == nil {
		t.Error("a missing line was accepted")
	}
}
