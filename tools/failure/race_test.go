//go:build race

package failure

// The race detector makes everything about this much slower.
const slower = 15
