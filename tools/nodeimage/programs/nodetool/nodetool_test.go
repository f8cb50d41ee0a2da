package main

import (
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const nodeList = `{"items":[
 {"metadata":{"name":"a"},"spec":{"podCIDRs":["10.244.0.0/24","fd00:10:244::/64"]},
  "status":{"addresses":[{"type":"Hostname","address":"a"},{"type":"InternalIP","address":"10.89.0.2"},{"type":"InternalIP","address":"fc00::2"}]}},
 {"metadata":{"name":"b"},"spec":{"podCIDRs":["10.244.1.0/24","fd00:10:244:1::/64"]},
  "status":{"addresses":[{"type":"InternalIP","address":"10.89.0.3"},{"type":"InternalIP","address":"fc00::3"}]}},
 {"metadata":{"name":"new"},"spec":{},"status":{}}]}`

func TestPlan(t *testing.T) {
	nodes, err := decodeNodes(strings.NewReader(nodeList))
	if err != nil {
		t.Fatal(err)
	}
	own, routes, err := plan(nodes, "a")
	if err != nil {
		t.Fatal(err)
	}
	if len(own) != 2 || own[0] != netip.MustParsePrefix("10.244.0.0/24") {
		t.Errorf("own ranges: %v", own)
	}
	want := map[netip.Prefix]netip.Addr{
		netip.MustParsePrefix("10.244.1.0/24"):      netip.MustParseAddr("10.89.0.3"),
		netip.MustParsePrefix("fd00:10:244:1::/64"): netip.MustParseAddr("fc00::3"),
	}
	if !maps.Equal(routes, want) {
		t.Errorf("routes: got %v, want %v", routes, want)
	}
	for _, self := range []string{"new", "gone"} {
		if _, _, err := plan(nodes, self); err == nil {
			t.Errorf("node %s has no range, and that was accepted", self)
		}
	}
}

func TestWriteConflist(t *testing.T) {
	dir := t.TempDir()
	own := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:10:244::/64")}
	for range 2 {
		if err := writeConflist(dir, own, 1400); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("got %v, %v; want one file", entries, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, entries[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Plugins []struct {
			Type string
			MTU  int
			IPAM struct {
				Ranges [][]struct{ Subnet string }
				Routes []struct{ Dst string }
			}
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	ptp := list.Plugins[0]
	if ptp.Type != "ptp" || ptp.MTU != 1400 || len(ptp.IPAM.Ranges) != 2 || ptp.IPAM.Routes[1].Dst != "::/0" {
		t.Errorf("got %s", data)
	}
}

func TestVolume(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volumes", "one")
	if err := setUpVolume(dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("got %v, %v; want a folder for everyone", info, err)
	}
	if err := tearDownVolume(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("got %v, want the folder gone", err)
	}
	for _, bad := range []string{"", "/", "/data", "relative/x", "/data/../data"} {
		if setUpVolume(bad) == nil || tearDownVolume(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
