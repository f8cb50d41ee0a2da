package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// account is where Kubernetes mounts a pod's service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// apiClient asks the API server as this pod's service account.
type apiClient struct {
	base  string
	http  *http.Client
	token func() (string, error)
}

// newAPI uses CONTROL_PLANE_ENDPOINT where Kind has put it: the Service's
// address works only once kube-proxy does, which would cost the start seconds.
func newAPI() (*apiClient, error) {
	endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT")
	if endpoint == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return nil, errors.New("neither CONTROL_PLANE_ENDPOINT nor KUBERNETES_SERVICE_HOST and _PORT are set")
		}
		endpoint = net.JoinHostPort(host, port)
	}
	pem, err := os.ReadFile(account + "/ca.crt")
	if err != nil {
		return nil, fmt.Errorf("read the cluster's certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the cluster's certificate authority holds no certificate")
	}
	return &apiClient{
		base: "https://" + endpoint,
		// No proxy: the API server is a neighbour, whatever the environment says.
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}},
		// The token is rotated on disk.
		token: func() (string, error) {
			b, err := os.ReadFile(account + "/token")
			return strings.TrimSpace(string(b)), err
		},
	}, nil
}

// nodes lists the cluster's nodes.
func (c *apiClient) nodes(ctx context.Context) ([]node, error) {
	token, err := c.token()
	if err != nil {
		return nil, fmt.Errorf("read the service account's token: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1/nodes", nil)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 512))
		return nil, fmt.Errorf("list nodes: %s: %s", response.Status, body)
	}
	return decodeNodes(response.Body)
}

// decodeNodes reads a Kubernetes v1 NodeList.
func decodeNodes(r io.Reader) ([]node, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Spec struct {
				PodCIDRs []string `json:"podCIDRs"`
			} `json:"spec"`
			Status struct {
				Addresses []struct {
					Type    string `json:"type"`
					Address string `json:"address"`
				} `json:"addresses"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := json.NewDecoder(r).Decode(&list); err != nil {
		return nil, fmt.Errorf("read the list of nodes: %w", err)
	}
	var out []node
	for _, item := range list.Items {
		ranges, err := parsePrefixes(item.Spec.PodCIDRs)
		if err != nil {
			return nil, fmt.Errorf("pod range of node %q: %w", item.Metadata.Name, err)
		}
		n := node{name: item.Metadata.Name, ranges: ranges}
		for _, a := range item.Status.Addresses {
			if a.Type != "InternalIP" {
				continue
			}
			address, err := netip.ParseAddr(a.Address)
			if err != nil {
				return nil, fmt.Errorf("address of node %q: %w", item.Metadata.Name, err)
			}
			n.addresses = append(n.addresses, address)
		}
		out = append(out, n)
	}
	return out, nil
}
