package build

// What a built node image consists of is pinned here, in the module files of
// ../programs and nowhere else. These constants repeat what a module file says
// where a program has to be told its own version; a test compares them.
const (
	// KubernetesVersion of the image. 1.34 is the newest minor version whose
	// kubelet starts on cgroup v1 hosts without being told to.
	KubernetesVersion = "v1.34.4"

	debianSuite = "bookworm"

	// recipe changes when the way the parts are put together does, which no
	// other input of a key would show.
	recipe = "1"
)

// debianPackages is Kind's own list (images/base/Dockerfile of the kind
// module), less what its optional storage tests need, plus runc and the CNI
// plugins, which Kind compiles, and ipset for kube-proxy's ipvs mode.
var debianPackages = []string{
	"systemd", "systemd-sysv", "dbus", "conntrack", "iptables", "nftables",
	"iproute2", "ethtool", "kmod", "libseccomp2", "procps", "ca-certificates",
	"ipset", "jq", "curl", "runc", "containernetworking-plugins",
}
