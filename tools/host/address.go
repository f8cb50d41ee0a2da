package host

import (
	"net/url"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// hidePassword keeps the password of an address out of what err says: the
// engines' programs and libraries repeat the address that they could not reach.
func hidePassword(err error, address string) error {
	if err == nil || settings.Shown(address) == address {
		return err
	}
	return redacted{err, address}
}

type redacted struct {
	error
	address string
}

func (r redacted) Error() string {
	pairs := []string{r.address, settings.Shown(r.address)}
	if u, err := url.Parse(r.address); err == nil { // they may write it in their own way
		name := u.User.Username()
		password, _ := u.User.Password()
		pairs = append(pairs, u.User.String()+"@", name+":xxxxx@", name+":"+password+"@", name+":xxxxx@")
	}
	return strings.NewReplacer(pairs...).Replace(r.error.Error())
}

func (r redacted) Unwrap() error { return r.error }
