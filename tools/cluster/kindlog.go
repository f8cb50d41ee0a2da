package cluster

import (
	"fmt"
	"log/slog"
	"strings"

	"sigs.k8s.io/kind/pkg/log"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// kindLogger hands Kind's messages to the log and its status to progress.
type kindLogger struct {
	log    *slog.Logger
	what   string
	report progress.Func
	level  log.Level
}

// Warn passes on all but what Kind says of our own settings at every call.
func (l kindLogger) Warn(message string) {
	for _, known := range []string{"enabling experimental podman provider", "podman network", "Docker network",
		"docker network", "Here be dragons", "cgroup v1 is deprecated"} {
		if strings.Contains(message, known) {
			l.log.Debug("kind: " + message)
			return
		}
	}
	l.log.Warn("kind: " + message)
}

func (l kindLogger) Warnf(format string, args ...any)  { l.Warn(fmt.Sprintf(format, args...)) }
func (l kindLogger) Error(message string)              { l.log.Error("kind: " + message) }
func (l kindLogger) Errorf(format string, args ...any) { l.Error(fmt.Sprintf(format, args...)) }

// V returns a logger for one level; Kind's status lines come at level 0.
func (l kindLogger) V(level log.Level) log.InfoLogger {
	l.level = level
	return l
}

func (l kindLogger) Info(message string) {
	line := strings.TrimSpace(strings.Map(plain, message))
	if line == "" {
		return
	}
	if l.level > 0 {
		l.log.Debug("kind: " + line)
		return
	}
	l.report(progress.Update{What: l.what, Line: line})
}

func (l kindLogger) Infof(format string, args ...any) { l.Info(fmt.Sprintf(format, args...)) }
func (l kindLogger) Enabled() bool                    { return l.level <= 0 }

// plain drops the pictures that Kind decorates its status with; they turn into
// rubbish in many CI logs.
func plain(r rune) rune {
	if r > 0x2fff || r == '\u2022' || r == '\u2713' || r == '\u2717' || (r >= 0x2600 && r <= 0x27bf) || r == '\ufe0f' {
		return -1
	}
	return r
}
