// Package chaos breaks engines, nodes and runs on purpose, in the middle of
// real runs of the pipeline, and observes what becomes of them: go test
// ./test/chaos, or mage chaos. Its tests need an engine and take more than an
// hour; TestFewFaults takes two minutes, and -short skips all.
//
// What was observed goes into the fault matrix (CHAOS_MATRIX names the file; a
// cell that was run replaces its old row).
package chaos
