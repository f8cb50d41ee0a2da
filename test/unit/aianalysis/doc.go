// Package aianalysis holds the unit tests of the AIAnalysis controller: its handlers with a mock HAPI and its reconciler with a
// fake API server. They need no cluster and show in seconds whether the code is sound.
package aianalysis
