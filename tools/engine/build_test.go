package engine

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// What a step prints when the world outside fails it, and when the code does.
func TestStepFailures(t *testing.T) {
	const podman = `building at STEP "RUN x": while running runtime: exit status 1`
	tests := []struct {
		name, output, err string
		class             failure.Class
	}{
		{"pip cannot resolve a name", `WARNING: Retrying (Retry(total=1, connect=None, read=None, redirect=None, status=None)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f6a>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/requests/
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f6b>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/requests/
ERROR: Could not find a version that satisfies the requirement requests==2.32.3 (from versions: none)
ERROR: No matching distribution found for requests==2.32.3`, podman, failure.Network},
		{"apt cannot resolve a name", `Err:1 http://deb.debian.org/debian bookworm InRelease
  Temporary failure resolving 'deb.debian.org'
W: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary failure resolving 'deb.debian.org'
W: Some index files failed to download. They have been ignored, or old ones used instead.
E: Unable to locate package curl`, `The command '/bin/sh -c apt-get update && apt-get install -y curl' returned a non-zero code: 100`, failure.Network},
		{"npm cannot resolve a name", `npm error code EAI_AGAIN
npm error syscall getaddrinfo
npm error request to https://registry.npmjs.org/left-pad failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org`, podman, failure.Network},
		{"the Go proxy does not answer", `go: github.com/go-logr/logr@v1.4.2: Get "https://proxy.golang.org/github.com/go-logr/logr/@v/v1.4.2.mod": dial tcp 142.250.74.49:443: i/o timeout`,
			podman, failure.Network},
		{"the linker was killed", "# example.com/app\n/usr/local/go/pkg/tool/linux_amd64/link: signal: killed", podman, failure.Resources},
		{"the compiler was killed", "gcc: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.", podman, failure.Resources},
		{"a step was killed", "", `The command '/bin/sh -c npm ci' returned a non-zero code: 137`, failure.Resources},
		{"Go code does not compile", "# example.com/app\n./main.go:7:2: undefined: frobnicate", podman, failure.TestFailure},
		{"versions in conflict, after a retry", `WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken by 'ReadTimeoutError("HTTPSConnectionPool(host='pypi.org', port=443): Read timed out. (read timeout=15)")': /simple/urllib3/
ERROR: Cannot install -r requirements.txt (line 1) and urllib3==2.2.1 because these package versions have conflicting dependencies.
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/#dealing-with-dependency-conflicts`, podman, failure.TestFailure},
		{"no such package", `ERROR: Could not find a version that satisfies the requirement no-such-package-xyz==9.9 (from versions: none)
ERROR: No matching distribution found for no-such-package-xyz==9.9`, podman, failure.TestFailure},
		{"missing file", "", `building at STEP "COPY app.py /app/": checking on sources under "/ctx": copier: stat: "/app.py": no such file or directory`, failure.TestFailure},
		{"a test in npm", `FAIL src/client.test.js
    connect ECONNREFUSED 127.0.0.1:8080
Tests:       1 failed, 3 passed, 4 total
npm error Test failed.  See above for more details.`, podman, failure.TestFailure},
		{"a test in Go", `--- FAIL: TestClient (5.00s)
    client_test.go:31: Get "http://127.0.0.1:8080/healthz": dial tcp 127.0.0.1:8080: connect: connection refused
FAIL	example.com/app	5.012s`, podman, failure.TestFailure},
		{"a step that would say so", "", `building at STEP "RUN curl https://x.org || echo \"Temporary failure in name resolution\"; test -e /x": while running runtime: exit status 1`, failure.TestFailure},
		{"an earlier step that said so", "Temporary failure in name resolution\n[1/2] STEP 3/3: RUN make\nmake: *** No rule to make target 'all'.  Stop.", podman, failure.TestFailure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stream strings.Builder
			for _, m := range []buildMessage{{Stream: "STEP 2/2: RUN x\n" + tt.output + "\n"}, {Error: tt.err}} {
				if err := json.NewEncoder(&stream).Encode(m); err != nil {
					t.Fatal(err)
				}
			}
			a := address{provider: Podman, url: "unix:///x"}
			f := failure.As(a.finishBuild(t.Context(), BuildRequest{Tag: "localhost/x:y"}, strings.NewReader(stream.String()), nil))
			if f == nil || f.Class != tt.class || f.Confidence != "high" || !strings.Contains(f.Cause, "localhost/x:y") || f.Remedy == "" {
				t.Errorf("got %v, want class %s with the image's name and a remedy", f, tt.class)
			}
		})
	}
}
