package settings

import (
	"net/url"
	"strings"
)

// Shown is an engine's address as it may be printed: without its password.
func Shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		// What is no URL may hold a password all the same.
		scheme, rest, _ := strings.Cut(address, "://")
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			return scheme + "://xxxxx" + rest[at:]
		}
		return address
	}
	if _, secret := u.User.Password(); !secret {
		return address
	}
	return u.Redacted()
}
