package host

import (
	"net/url"
	"strings"
)

// shown is an engine's address as it may be printed: without its password.
func shown(address string) string {
	u, err := url.Parse(address)
	if err == nil {
		if _, secret := u.User.Password(); secret {
			return u.Redacted()
		}
		return address
	}
	// Almost an address: all that may be a password goes.
	scheme, rest, _ := strings.Cut(address, "://")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		return scheme + "://xxxxx" + rest[at:]
	}
	return address
}

// hidePassword keeps the password of an address out of what err says: the
// engines' programs and libraries repeat the address that they could not reach.
func hidePassword(err error, address string) error {
	if err == nil || shown(address) == address {
		return err
	}
	return redacted{err, address}
}

type redacted struct {
	error
	address string
}

func (r redacted) Error() string {
	pairs := []string{r.address, shown(r.address)}
	if u, err := url.Parse(r.address); err == nil { // they may write it in their own way
		name := u.User.Username()
		password, _ := u.User.Password()
		pairs = append(pairs, u.User.String()+"@", name+":xxxxx@", name+":"+password+"@", name+":xxxxx@")
	}
	return strings.NewReplacer(pairs...).Replace(r.error.Error())
}

func (r redacted) Unwrap() error { return r.error }
