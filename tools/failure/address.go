package failure

import (
	"regexp"
	"strings"
)

// owner is the layer that answers at an address.
type owner string

const (
	ofEngine   owner = "engine"      // the engine's socket, its API, its SSH tunnel
	ofMachine  owner = "machine"     // the hypervisor's control socket of an engine's VM
	ofAPI      owner = "api"         // the cluster's API server, etcd behind it
	ofRegistry owner = "registry"    // an image registry
	ofOutside  owner = "outside"     // anything else beyond the host: module proxies, package mirrors
	ofLocalImg owner = "local-image" // "registry" of an image named localhost/…: there is none
	ofProduct  owner = "product"     // a pod, a service, a published port: the code under test
)

var owners = []owner{ofEngine, ofMachine, ofAPI, ofRegistry, ofOutside, ofLocalImg, ofProduct}

// fault is how a call failed.
type fault string

const (
	refused     fault = "refused"     // nobody listens
	cut         fault = "cut"         // the connection ended under way
	slow        fault = "timeout"     // no answer in time
	noName      fault = "name"        // the host name does not resolve
	unreachable fault = "unreachable" // no route
	distrusted  fault = "tls"         // certificate or protocol
	serverError fault = "server"      // a 5xx answer
)

var faultNames = []fault{refused, cut, slow, noName, unreachable, distrusted, serverError}

// call is a failed call: where to, and how it failed.
type call struct {
	owner  owner
	fault  fault
	target string
	line   int
}

var faults = []struct {
	fault fault
	re    pattern
}{
	{noName, mustCompile(`(?i)`, `no such host|server misbehaving|could not resolve|name resolution|name or service not known|nodename nor servname|\bEAI_AGAIN\b|\bENOTFOUND\b|lookup .*(?:i/o timeout|timed? ?out|refused)|dial tcp: lookup`)},
	{refused, mustCompile(`(?i)`, `connection refused|actively refused|was refused|\bECONNREFUSED\b|connect: no such file or directory|couldn't connect|failed to connect to .* port|is the docker daemon running`)},
	{distrusted, mustCompile(`(?i)`, `x509:|tls: (?:failed|bad certificate|handshake failure|first record|unknown|protocol|no (?:cipher|supported)|server selected)|certificate (?:signed|has expired|verify failed|is not)|CERTIFICATE_VERIFY_FAILED|SSL(?:Error|_ERROR| certificate)|server gave HTTP response to HTTPS client|self[- ]signed certificate`)},
	{slow, mustCompile(`(?i)`, `i/o timeout|TLS handshake timeout|deadline exceeded|Client\.Timeout|request canceled while waiting|(?:connection|operation|read|connect|request|server|handshake)s? timed out|timed out|\bETIMEDOUT\b|no response|timeout awaiting|: timeout$`)},
	{unreachable, mustCompile(`(?i)`, `no route to host|network is unreachable|host is (?:down|unreachable)|\bEHOSTUNREACH\b|\bENETUNREACH\b|cannot assign requested address|host unreachable`)},
	{cut, mustCompile(`(?i)`, `\bEOF\b|reset by peer|broken pipe|forcibly closed|\bECONNRESET\b|connection (?:was )?(?:reset|closed|aborted|lost)|closed network connection|GOAWAY|stream error|http2: |socket hang up|INTERNAL_ERROR|transport is closing|connection shut ?down|server closed|remote end closed|failed to respond|NoHttpResponse|handshake failed|unexpectedly closed|software caused connection abort|tls: (?:unexpected message|bad record MAC|internal error|use of closed)`)},
	{serverError, mustCompile(`(?i)`, `\b50[0234]\b|bad gateway|service unavailable|gateway time-?out|internal server error`)},
}

var (
	targets = regexp.MustCompile(`(?i)\b(?:https?|http\+docker|tcp|unix|ssh|npipe|grpc|wss?|fd)://[^\s"'<>\\,]+|\bdial (?:unix|tcp[46]?|udp) [^\s,]*[^\s,:]|\blookup [^\s:]+|connect(?:ion)? to [\w.-]*[.:][\w.\[\]:-]*\w(?: \([\d.:a-f]+\))?(?: port \d+)?|could not resolve(?: host)?:? '?[\w.-]+|\\\\\.\\pipe\\\S+|//\./pipe/\S+|\bhost='?[\w.-]+|"?[\w-]+(?:\.[\w-]+)+:\d+|\b[\w.-]+:\d{2,5}\b|/[\w./-]+\.sock\b|/[\w./-]*/libpod/socket/[\w./-]+`)

	engineAt   = regexp.MustCompile(`(?i)://d/|unix://localhost:80\b|//unix\.sock/|//localhost:80/v\d|http\+docker://|/libpod/|:237[56]\b|/v1\.\d+/(?:build|containers|images|exec|info|version|networks|volumes|events|auth|_ping|session|grpc|ping|plugins)|/_ping|%2f\S*sock|(?:docker|podman|buildkitd?|colima|lima|rd|orbstack|crio|nerdctl|dockerd)\S*\.sock|docker_?engine|com\.docker\.docker/|containerd-shim/|pipe/docker|pipe.podman|^ssh://|/build\?buildargs`)
	criAt      = regexp.MustCompile(`(?i)(?:containerd|cri-dockerd|crio|dockershim)\S*\.sock`)
	machineAt  = regexp.MustCompile(`(?i)/vm/state|/vm/inspect|qmp_\S*\.sock|gvproxy\S*\.sock|vfkit`)
	apiAt      = regexp.MustCompile(`(?i):644[34]\b|^https://(?:127\.0\.0\.1|localhost|0\.0\.0\.0|\[::1\]|host\.docker\.internal|[\w-]+-(?:control-plane|serverlb|server-\d)|192\.168\.\d+\.\d+|172\.1[6-9]\.\d+\.\d+):\d+/(?:api(?:\?|$|/v1/(?:namespaces|nodes|pods|services|events|configmaps|secrets|serviceaccounts|persistent|resourcequotas|endpoints|componentstatuses)\b)|apis(?:\?|/|$)|version|openapi/v[23]|(?:ready|live|health)z)|^https://[^/]+/api/v1/namespaces/|^https://[^/]+/apis/[\w.]+/v\d\w*/|\bkubernetes\.default|10\.(?:96|43)\.0\.1:443|:23(?:79|80)\b`)
	localImage = regexp.MustCompile(`(?i)https?://localhost(?::443)?/(?:v[12]|token)|//localhost/|^dial tcp (?:\[::1\]|127\.0\.0\.1):443`)
	registryAt = regexp.MustCompile(`(?i)/v2/|docker\.io|docker\.com|ghcr\.io|quay\.io|gcr\.io|registry\.k8s|k8s\.gcr|mcr\.microsoft|\.ecr\.|public\.ecr|pkg\.dev|azurecr|gitlab\.com:?|registry|harbor\.|cloudfront|r2\.cloudflarestorage|artifactory|nexus\.`)
	privateAt  = regexp.MustCompile(`(?i)^(?:localhost|127\.|\[?::1|0\.0\.0\.0|10\.|172\.(?:1[6-9]|2\d|3[01])\.|192\.168\.|\[?f[cd][0-9a-f]{2}:|host\.(?:docker|containers|minikube)\.internal|[\w-]+$|.*\.(?:svc|local|localhost|test|cluster\.local)$|.*\.svc\.)`)
	hostOf     = regexp.MustCompile(`^(?:[a-zA-Z]+://|dial (?:tcp[46]?|udp) |lookup |(?i:connect(?:ion)? to )|(?i:could not resolve(?: host)?:? '?)|host='?)?"?(?:[^/@\s]*@)?(\[[^\]]+\]|[^/:\s"']+)`)
	fileName   = regexp.MustCompile(`(?i)\.(?:go|py|js|ts|java|rs|c|h|cc|cpp|ya?ml|json|toml|proto|sh|md|txt|lock|tpl|rb|kt):\d+$`)
)

// callsOf finds the failed calls of a text and who owns the addresses.
func callsOf(lines []string) []call {
	var calls []call
	for i, line := range lines {
		if len(line) > 8000 {
			line = line[:4000] + line[len(line)-4000:]
		}
		how := faultOf(line)
		if how == "" {
			continue
		}
		best := ""
		var who owner
		for _, t := range targets.FindAllString(line, 12) {
			if fileName.MatchString(t) {
				continue
			}
			if o := ownerOf(t, line); o != "" && (best == "" || strength(o) > strength(who)) {
				best, who = t, o
			}
		}
		if best != "" {
			calls = append(calls, call{who, how, best, i})
		}
		if len(calls) == 200 {
			break
		}
	}
	return calls
}

func faultOf(line string) fault {
	lower := lowerASCII(line)
	for _, f := range faults {
		if f.re.in(line, lower) {
			return f.fault
		}
	}
	return ""
}

// strength orders owners where a line shows several addresses: the more
// specific one is whom the call was for, the other only how it was reached.
func strength(o owner) int {
	switch o {
	case ofEngine, ofMachine:
		return 5
	case ofLocalImg:
		return 4
	case ofAPI:
		return 3
	case ofRegistry:
		return 2
	case ofOutside:
		return 1
	}
	return 0
}

func ownerOf(t, line string) owner {
	switch {
	case machineAt.MatchString(t):
		return ofMachine
	case criAt.MatchString(t):
		return ofAPI
	case engineAt.MatchString(t):
		return ofEngine
	case localImage.MatchString(t) && strings.Contains(line, "localhost/"):
		return ofLocalImg
	}
	host := ""
	if m := hostOf.FindStringSubmatch(t); m != nil {
		host = strings.Trim(m[1], ".")
	}
	private := privateAt.MatchString(host)
	switch {
	case strings.Trim(host, "0123456789") == "": // none, or the hour of a time
		return ""
	case strings.Contains(host, ".svc"), strings.HasSuffix(host, ".invalid"): // RFC 2606: no such name by intent
		return ofProduct
	case apiAt.MatchString(t):
		return ofAPI
	case registryAt.MatchString(t) && (!private || strings.Contains(t, "/v2/")):
		return ofRegistry
	case private:
		return ofProduct
	case strings.Contains(host, "."):
		return ofOutside
	}
	return ofProduct
}
