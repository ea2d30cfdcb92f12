package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
)

// arbiterState is what the host of a QDevice says about itself.
type arbiterState struct {
	Host     string
	UID      string
	Package  bool // corosync-qnetd is installed
	Unit     pve.Unit
	RootBy   string // sshd's PermitRootLogin
	Keys     string // sshd's PubkeyAuthentication
	HostKeys []string
}

// arbiterScript reads the host of a QDevice in one round trip.
var arbiterScript = frame.Script(
	frame.Read{Name: "uid", Seconds: 5, Command: `id -u`},
	frame.Read{Name: "package", Seconds: 10, Command: `dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' corosync-qnetd`},
	frame.Read{Name: "unit", Seconds: 10, Command: `systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState corosync-qnetd`},
	frame.Read{Name: "sshd", Seconds: 10, Command: `sshd -T`},
	frame.Read{Name: "hostkeys", Seconds: 5, Command: `sh -c 'cat /etc/ssh/ssh_host_*_key.pub'`},
)

func readArbiter(ctx context.Context, t module.Target, host string) (arbiterState, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return arbiterState{}, err
	}
	r, err := conn.Run(ctx, transport.Command{Script: arbiterScript, Env: map[string]string{"PATH": sbinPath}, Timeout: 45 * time.Second})
	if err != nil {
		return arbiterState{}, fmt.Errorf("%s: look at the arbiter: %w", host, err)
	}
	return parseArbiter(host, r.Stdout)
}

// sbinPath is root's PATH: that of other accounts may lack the folders of sshd.
const sbinPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func parseArbiter(host string, out []byte) (arbiterState, error) {
	frames, err := frame.Parse(out)
	if err != nil {
		return arbiterState{}, fmt.Errorf("%s: look at the arbiter: %w", host, err)
	}
	a := arbiterState{
		Host: host, UID: strings.TrimSpace(string(frames["uid"].Text)),
		Package:  pve.ParsePackages(frames["package"].Text)["corosync-qnetd"] != "",
		Unit:     pve.ParseUnits(append(frames["unit"].Text, "\n\n"...))["corosync-qnetd"],
		HostKeys: pve.KeyLines(frames["hostkeys"].Text),
	}
	if frames["hostkeys"].RC != 0 {
		a.HostKeys = nil
	}
	if frames["sshd"].RC == 0 { // else it is not known; the login tells
		for line := range strings.Lines(string(frames["sshd"].Text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch key {
			case "permitrootlogin":
				a.RootBy = value
			case "pubkeyauthentication":
				a.Keys = value
			}
		}
	}
	return a, nil
}

// loginRefusal says why a node's root will not get in to the arbiter, whatever keys there are; nil if it may.
func (a arbiterState) loginRefusal() *module.Refusal {
	r := &module.Refusal{
		Host: a.Host, Gate: "set the QDevice up", Want: "root's login by key from a node, which pvecm qdevice setup uses and has no substitute for",
		Look: "sshd -T | grep -E 'permitrootlogin|pubkeyauthentication'",
	}
	switch {
	case a.UID != "0":
		r.Saw, r.Want, r.Look = "commands run with user id "+a.UID, "root, to install corosync-qnetd and to let a node in", "id"
		r.Override = `set ssh.user = "root", or become = "sudo"`
	case a.RootBy == "no" || a.RootBy == "forced-commands-only":
		r.Saw = "sshd says PermitRootLogin " + a.RootBy
		r.Override = `PermitRootLogin prohibit-password in a file of /etc/ssh/sshd_config.d, for the addresses of the nodes (Match Address) if you like; then systemctl reload ssh`
	case a.Keys == "no":
		r.Saw, r.Override = "sshd says PubkeyAuthentication no", "allow it, then systemctl reload ssh"
	default:
		return nil
	}
	return r
}

// loginTo is a login as root without any question, as pvecm qdevice setup makes it.
func loginTo(address string) transport.Command {
	return transport.Command{
		Argv:    []string{"ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10", "root@" + address, "true"},
		Timeout: 30 * time.Second,
	}
}

// admitScript adds the key on standard input to root's authorized_keys of a host without pmxcfs, unless its blob, $1, is
// there.
const admitScript = `# let a node's root in
set -e
umask 077
mkdir -p /root/.ssh
f=/root/.ssh/authorized_keys
new=$(cat)
if [ -e "$f" ] && grep -qF -- "$1" "$f"; then exit 0; fi
if [ -s "$f" ] && [ -n "$(tail -c 1 "$f")" ]; then echo >>"$f"; fi
printf '%s\n' "$new" >>"$f"
`

// trustArbiter lets a node's root log in to the arbiter: the node's key goes to the arbiter and the arbiter's host keys
// to the node, both over the connections that pxrun trusts.
func trustArbiter(ctx context.Context, t module.Target, node, arbiter, address string) error {
	a, err := readArbiter(ctx, t, arbiter)
	if err != nil {
		return err
	}
	if r := a.loginRefusal(); r != nil {
		return r
	}
	if len(a.HostKeys) == 0 {
		return fmt.Errorf("%s: its SSH host keys could not be read (look: ls /etc/ssh/ssh_host_*_key.pub)", arbiter)
	}
	own, err := act(ctx, t, node, transport.Command{Script: ownKeyScript, Mutates: true})
	if err != nil {
		return fmt.Errorf("%s: make root's SSH key: %w", node, err)
	}
	keys := pve.KeyLines([]byte(own))
	if len(keys) != 1 || keyBlob(keys[0]) == "" {
		return fmt.Errorf("%s: /root/.ssh/id_rsa.pub holds no key (look: cat /root/.ssh/id_rsa.pub)", node)
	}
	if _, err := act(ctx, t, arbiter, transport.Command{Script: admitScript, Argv: []string{keyBlob(keys[0])}, Stdin: []byte(keys[0] + "\n"), Mutates: true}); err != nil {
		return fmt.Errorf("%s: add the key of %s to root's authorized_keys: %w", arbiter, node, err)
	}
	known := make([]string, len(a.HostKeys))
	for i, line := range a.HostKeys {
		fields := strings.Fields(line)
		known[i] = address + " " + fields[0] + " " + fields[1]
	}
	_, err = act(ctx, t, node, transport.Command{Script: trustScript, Argv: []string{address}, Stdin: []byte(strings.Join(known, "\n")), Mutates: true})
	if err != nil {
		return fmt.Errorf("%s: log in to %s as root at %s with /root/.ssh/id_rsa (look: ssh -o BatchMode=yes root@%s true): %w", node, arbiter, address, address, err)
	}
	return nil
}

// amongScript logs in from a node to every member as pvecm does, itself included. Its input has a line "NAME ADDRESS" for
// each, its output one line "NAME ok" or "NAME why not".
const amongScript = `# log in to every member
while read -r name addr; do
	{ if why=$(ssh -n -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 -o "HostKeyAlias=$name" -o "UserKnownHostsFile=/etc/pve/nodes/$name/ssh_known_hosts" -o GlobalKnownHostsFile=none "root@$addr" true 2>&1)
	then echo "$name ok"; else echo "$name $(printf '%s' "$why" | tr '\r\n' '  ')"; fi; } &
done
wait
`

// trustAmong finds the members that a node's root cannot log in to, with the reason.
func trustAmong(ctx context.Context, t module.Target, from string, members []pve.NodeState) (map[string]string, error) {
	var lines strings.Builder
	for _, m := range members {
		addr, err := memberAddr(m)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&lines, "%s %s\n", m.Hostname, addr)
	}
	out, err := act(ctx, t, from, transport.Command{Script: amongScript, Stdin: []byte(lines.String()), Timeout: 45 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("%s: log in to the other members: %w", from, err)
	}
	broken := map[string]string{}
	for _, m := range members {
		broken[m.Hostname] = "no answer"
	}
	for line := range strings.Lines(out) {
		name, why, _ := strings.Cut(strings.TrimSpace(line), " ")
		if why == "ok" {
			delete(broken, name)
		} else if _, asked := broken[name]; asked {
			broken[name] = why
		}
	}
	return broken, nil
}

func memberAddr(s pve.NodeState) (netip.Addr, error) {
	if m, ok := s.Members.Member(s.Hostname); ok {
		if a, err := netip.ParseAddr(m.IP); err == nil {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s: .members has no address of it (look: cat /etc/pve/.members)", s.Host)
}
