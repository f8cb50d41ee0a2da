//go:build ignore

// Command magefile runs the targets without an installed Mage:
// go run magefile.go TARGET. (go run turns every non-zero exit code into 1;
// go tool mage keeps it.)
package main

import (
	"os"

	"github.com/magefile/mage/mage"
)

func main() { os.Exit(mage.Main()) }
