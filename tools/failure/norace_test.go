//go:build !race

package failure

const slower = 1
