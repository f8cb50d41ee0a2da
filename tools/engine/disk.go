package engine

import "golang.org/x/sys/unix"

// localDisk asks this host for the disk of an engine that runs on it: what
// root's reserve holds back is not free to an engine, whatever it reports.
func (i *Info) localDisk() {
	if i.Remote || i.GraphRoot == "" {
		return
	}
	var s unix.Statfs_t
	if unix.Statfs(i.GraphRoot, &s) == nil {
		i.DiskFree, i.DiskTotal = s.Bavail*uint64(s.Bsize), s.Blocks*uint64(s.Bsize)
	}
}
