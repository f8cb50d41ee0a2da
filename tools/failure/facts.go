package failure

import "fmt"

var lostConnection = mustCompile(`(?i)`, `connection refused|\bEOF\b|reset by peer|broken pipe|i/o timeout|no route to host|closed network connection|no such container|is not running|deadline exceeded|connection (?:was )?lost`)

// with weighs what is known besides the text; lost says that the text speaks of
// a lost connection. Facts can move the blame of a
// lost connection from the product to the layer below, never that of an
// assertion: a value that differs is the code's, whatever else is down.
func (d Diagnosis) with(f Facts, lost bool) Diagnosis {
	down := func(b *bool) bool { return b != nil && !*b }
	up := func(b *bool) bool { return b != nil && *b }
	blame := d.Class == TestFailure && d.Signature != "compile-error" || d.Class == Unknown || d.Class == ClusterUnready

	switch {
	case f.FullDisk != "" && d.Class != Resources && (blame && (lost || d.Class != TestFailure) || d.Class == EngineBroken):
		d = Diagnosis{Class: Resources, Retry: HealThenRetry, Signature: "disk-nearly-full", Confidence: "high",
			Cause:  "the disk is full: " + f.FullDisk + "; what runs on it fails for want of room",
			Remedy: "df -h shows it; free space there, mage teardown frees what this project holds"}
	case down(f.EngineReachable) && blame && (lost || d.Class != TestFailure):
		d = Diagnosis{Class: EngineConnection, Retry: HealThenRetry, Signature: "engine-down", Confidence: "high",
			Cause:  "the container engine does not answer, and what ran on it lost its connections",
			Remedy: "start the engine: podman machine start, or restart its service"}
	case down(f.NodesRunning) && blame && (lost || d.Class != TestFailure):
		d = Diagnosis{Class: ClusterUnready, Retry: HealThenRetry, Signature: "node-down", Confidence: "high",
			Cause:  "a node of the cluster does not run, so everything on it is unreachable",
			Remedy: "start the stopped node containers and wait for the API"}
	case d.Class == EngineConnection && up(f.EngineReachable) && d.Retry == HealThenRetry:
		d.Retry = RetryNow // it is back already
	case d.Class == TestFailure && lost && up(f.PodsRestarted):
		d.Cause += "; a pod of the product restarted meanwhile"
		d.Confidence = "high"
	case d.Class == TestFailure && d.Confidence == "medium" && up(f.EngineReachable) && up(f.NodesRunning):
		d.Confidence = "high"
	}
	d = d.withExit(f)
	switch {
	case d.Retry == RetryNow && f.AttemptsWithSameText >= 3:
		d.Retry = FailFast
		d.Cause += fmt.Sprintf("; it ended the same way %d times", f.AttemptsWithSameText)
	case d.Retry == RetryNow && f.AttemptsWithSameText == 2:
		d.Retry = HealThenRetry
	}
	return d
}

// withExit uses the exit codes that shells and engines give a meaning. They
// speak only where the text says nothing.
func (d Diagnosis) withExit(f Facts) Diagnosis {
	if f.ExitCode == nil || d.Class != Unknown {
		return d
	}
	name := f.Step
	if name == "" {
		name = "the program"
	}
	switch *f.ExitCode {
	case 126:
		d.Class, d.Retry, d.Signature = Configuration, FailFast, "exit-126"
		d.Cause, d.Remedy = name+" could not be executed (exit code 126)", "chmod +x the program, or use one built for this machine"
	case 127:
		d.Class, d.Retry, d.Signature = Configuration, FailFast, "exit-127"
		d.Cause, d.Remedy = name+" called a program that is not installed (exit code 127)", "mage setup"
	case 137:
		d.Class, d.Retry, d.Signature = Resources, HealThenRetry, "exit-137"
		d.Cause, d.Remedy = name+" was killed (exit code 137), most often for want of memory", "give the machine or container more memory"
	}
	return d
}
