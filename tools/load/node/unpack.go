package node

import (
	"context"
	"io"
)

// Unpack feeds an image to the node, layer by layer: each is unpacked straight
// into its snapshot, which containerd's import does only after it has written
// the layer to its content store, synced. stdin is as package transfer writes it
// for receivers that unpack. A nil error says that the last program ended well,
// not that the image is there: ask.
//
// Layers that came whole stay when it fails, until [Release], so that the next
// attempt need not bring them again.
func (inv *Inventory) Unpack(ctx context.Context, r Runner, marker string, stdin io.Reader) error {
	cmd := append(Marked(marker), "sh", "-c", unpackScript, "kubernaut-e2e", marker)
	return feed(ctx, r, "unpack the image's layers", append(cmd, inv.importCommand()...), stdin)
}

// Release gives up the layers that failed attempts with this marker have left.
func Release(ctx context.Context, r Runner, marker string) error {
	_, err := script(ctx, r, "release the layers of a load that failed", releases+`release "$1"`, marker)
	return err
}

// releases takes back what keeps layers from containerd's garbage collection:
// ctr labels each snapshot that it prepares, and the label stays. A file names
// them, so that those of a load that was killed are found by the next one.
const releases = `
kept=/var/lib/kubernaut-e2e
release() {
  ctr -n k8s.io snapshots rm "kubernaut-e2e-$1" >/dev/null 2>&1
  test -e "$kept/$1" || return 0
  while read -r chain; do
    ctr -n k8s.io snapshots label "$chain" containerd.io/gc.root= >/dev/null 2>&1
  done <"$kept/$1"
  rm -f "$kept/$1"
}
`

// The script reads lines, and behind some of them as many bytes as they say:
// head takes no more than that, and read takes no more than a line. Whiteouts
// come as a patch. It owns one snapshot at a time, which goes with it.
const unpackScript = marked + releases + `
marker=$1; shift
key=kubernaut-e2e-$marker
snapshots() { ctr -n k8s.io snapshots "$@" </dev/null; }
unpack() {
  root=$(stat -c '%u:%g %a' "$upper") # containerd takes nothing that a layer says about the root
  head -c "$1" | tar --extract --file=- --directory="$upper" --numeric-owner --xattrs --xattrs-include='*' \
    --delay-directory-restore --warning=no-timestamp --warning=no-unknown-keyword --exclude='.wh.*' &&
    chown "${root% *}" "$upper" && chmod "${root#* }" "$upper"
}
trap 'snapshots rm "$key" >/dev/null 2>&1' EXIT
trap 'exit 143' HUP INT PIPE TERM
mkdir -p "$kept" && : >>"$kept/$marker" || exit 1
for f in "$kept"/*; do
  test ! -e "$f" || test -n "$(marked "${f##*/}")" || release "${f##*/}"
done
while read -r op size; do
  case $op in
  layer)
    parent=${size#* }; size=${size% *}
    snapshots rm "$key" >/dev/null 2>&1
    test "$parent" != - || parent=
    snapshots prepare "$key" $parent >/dev/null || exit 1
    mounts=$(snapshots mounts /nowhere "$key") || exit 1
    upper=$(echo "$mounts" | sed -n 's/.*[ ,]upperdir=\([^, ]*\).*/\1/p; s/^mount -t bind \([^ ]*\) .*/\1/p')
    lower=$(echo "$mounts" | sed -n 's/.*[ ,]lowerdir=\([^, ]*\).*/\1/p' | tr : ' ')
    test -d "$upper" || { echo "no folder to unpack into: $mounts" >&2; exit 1; }
    unpack "$size" || exit 1;;
  patch) unpack "$size" || exit 1;;
  inherit)
    dir=$(head -c "$size")
    for l in $lower; do
      test -d "$l/$dir" || continue
      chown --reference="$l/$dir" "$upper/$dir" && chmod --reference="$l/$dir" "$upper/$dir" || exit 1
      break
    done;;
  commit)
    echo "$size" >>"$kept/$marker"
    snapshots commit "$size" "$key" || snapshots info "$size" >/dev/null || exit 1;;
  import)
    "$@" || exit
    release "$marker"
    exit 0;;
  esac
done
echo 'the image ended before it was whole' >&2
exit 1
`
