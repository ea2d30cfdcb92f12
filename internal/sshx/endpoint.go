package sshx

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
)

// endpoint is how one host is reached and logged in to: the inventory's word, then ssh_config's, then OpenSSH's custom.
type endpoint struct {
	name    string // for people
	address string
	port    int
	keyName string // what known_hosts calls it, if not its address
	user    string

	identities     []string // key files that were named
	defaults       bool     // none was named: the usual files
	named          bool     // the inventory named them, so that a missing one is an error
	identitiesOnly bool
	certificates   []string
	password       secret.String
	passphrase     secret.String

	policy     inventory.HostKeyPolicy
	pinned     string // the inventory's host_key
	knownHosts []string

	jump     []inventory.Host // hops on the way, the one that is dialled first in front
	become   inventory.Become
	timeout  time.Duration
	sessions int
}

// The values that hold when nothing else is said.
const (
	defaultTimeout  = 20 * time.Second
	defaultSessions = 4
)

// target is the network address.
func (ep endpoint) target() string { return net.JoinHostPort(ep.address, strconv.Itoa(ep.port)) }

// resolve decides the endpoint of a host.
func resolve(h inventory.Host, cfg Config, config clientConfig) (endpoint, error) {
	if h.SSH.NoConfig {
		config = clientConfig{}
	}
	names := []string{h.Address, h.Name}
	port, err := config.port(names...)
	if err != nil {
		return endpoint{}, err
	}
	ep := endpoint{
		name:       cmp.Or(h.Name, h.Address),
		address:    h.Address,
		port:       cmp.Or(h.SSH.Port, port, 22),
		keyName:    config.first("HostKeyAlias", names...),
		user:       cmp.Or(h.SSH.User, config.first("User", names...), cfg.User, "root"),
		password:   h.SSH.Password,
		passphrase: h.SSH.Passphrase,
		policy:     h.SSH.HostKeys,
		pinned:     h.SSH.HostKey,
		become:     h.SSH.Become,
		timeout:    cmp.Or(h.SSH.ConnectTimeout, defaultTimeout),
		sessions:   cmp.Or(h.SSH.Sessions, defaultSessions),
	}
	if ep.address == "" {
		return endpoint{}, fmt.Errorf("the host has no address")
	}
	if _, err := netip.ParseAddr(h.Address); err != nil {
		// An address stands for itself; a name may be an alias.
		if alias := config.first("HostName", names...); alias != "" {
			ep.address = strings.ReplaceAll(alias, "%h", h.Address)
		}
	}
	if ep.become.Method != "" && ep.become.Method != "sudo" {
		return endpoint{}, fmt.Errorf("become method %q is not known; use \"sudo\"", ep.become.Method)
	}
	if ep.policy == "" && config.first("StrictHostKeyChecking", names...) == "accept-new" {
		ep.policy = inventory.HostKeysAcceptNew
	}
	ep.setKeys(h, cfg, config, names)
	ep.jump, err = hops(h, cfg.Site, config, names)
	return ep, err
}

// setKeys fills in the files that prove either side's identity.
func (ep *endpoint) setKeys(h inventory.Host, cfg Config, config clientConfig, names []string) {
	expand := func(paths []string) []string {
		var out []string
		for _, p := range paths {
			if p != "" && !strings.EqualFold(p, "none") {
				out = append(out, expandTokens(p, cfg.Home, *ep))
			}
		}
		return out
	}
	ep.identities = expand(h.SSH.IdentityFiles)
	ep.named = len(ep.identities) > 0
	if !ep.named {
		ep.identities = expand(config.all("IdentityFile", names...))
		ep.identitiesOnly = strings.EqualFold(config.first("IdentitiesOnly", names...), "yes")
	}
	ep.defaults = len(ep.identities) == 0
	ep.certificates = expand([]string{h.SSH.Certificate})
	if len(ep.certificates) == 0 {
		ep.certificates = expand(config.all("CertificateFile", names...))
	}
	ep.knownHosts = expand(h.SSH.KnownHosts)
	if len(ep.knownHosts) == 0 {
		ep.knownHosts = expand(strings.Fields(config.first("UserKnownHostsFile", names...)))
	}
	if len(ep.knownHosts) == 0 && cfg.Home != "" {
		ep.knownHosts = expand([]string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"})
	}
}

// hops lists the jump hosts of a host, in the order in which they are passed.
func hops(h inventory.Host, site *inventory.Site, config clientConfig, names []string) ([]inventory.Host, error) {
	words := h.SSH.Jump
	if len(words) == 0 {
		proxy := config.first("ProxyJump", names...)
		if proxy == "" || strings.EqualFold(proxy, "none") {
			return nil, nil
		}
		words = strings.Split(proxy, ",")
	}
	var list []inventory.Host
	for _, word := range words {
		hop, err := parseHop(strings.TrimSpace(word), h, site)
		if err != nil {
			return nil, err
		}
		list = append(list, hop)
	}
	return list, nil
}

// parseHop reads a host's name, or user@host:port, which is trusted by the same rules as the host behind it.
func parseHop(word string, behind inventory.Host, site *inventory.Site) (inventory.Host, error) {
	if site != nil {
		if h, ok := site.Host(word); ok {
			return h, nil
		}
	}
	word = strings.TrimPrefix(word, "ssh://")
	hop := inventory.Host{Name: word, SSH: inventory.SSH{
		HostKeys: behind.SSH.HostKeys, KnownHosts: behind.SSH.KnownHosts, IdentityFiles: behind.SSH.IdentityFiles,
		Certificate: behind.SSH.Certificate, Passphrase: behind.SSH.Passphrase, ConnectTimeout: behind.SSH.ConnectTimeout,
		NoConfig: behind.SSH.NoConfig,
	}}
	address := word
	if i := strings.LastIndex(word, "@"); i >= 0 {
		hop.SSH.User, address = word[:i], word[i+1:]
	}
	if host, port, err := net.SplitHostPort(address); err == nil {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return hop, fmt.Errorf("jump host %q: %q is no port", word, port)
		}
		address, hop.SSH.Port = host, n
	}
	hop.Address = strings.Trim(address, "[]")
	if hop.Address == "" {
		return hop, fmt.Errorf("jump host %q has no address", word)
	}
	return hop, nil
}
