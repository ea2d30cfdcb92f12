package cluster

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
)

// ownKeyScript makes sure that root has the RSA key that Proxmox's tools use between nodes, and prints its public half.
const ownKeyScript = `# make root's key for the cluster
set -e
umask 077
mkdir -p /root/.ssh
k=/root/.ssh/id_rsa
if [ ! -s "$k" ]; then
	rm -f "$k" "$k.pub"
	ssh-keygen -q -t rsa -b 4096 -N '' -C "root@$(hostname)" -f "$k" >&2
elif [ ! -s "$k.pub" ]; then
	ssh-keygen -y -f "$k" >"$k.pub"
fi
cat "$k.pub"
`

// trustScript writes the member's host keys, standard input, to root's known_hosts under the name that the join uses,
// and tries the login without any question.
const trustScript = `# trust the member's host key
addr=$1
umask 077
f=/root/.ssh/known_hosts
new=$(cat)
if [ -e "$f" ]; then
	if [ -e "$f.old" ]; then kept=1; else kept=; fi
	ssh-keygen -R "$addr" -f "$f" >/dev/null 2>&1
	if [ -z "$kept" ]; then rm -f "$f.old"; fi # ssh-keygen leaves what was there before
fi
if [ -s "$f" ] && [ -n "$(tail -c 1 "$f")" ]; then echo >>"$f"; fi
printf '%s\n' "$new" >>"$f" || exit 1
ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 "root@$addr" true
`

// prepare makes ready what pvecm add would otherwise ask for, over the connections that pxrun trusts: the node's key is
// let in by the member, the member's host key is known to the node. Whoever may log in to the node may do so on the
// cluster, since the cluster's list of keys replaces the node's: pxrun's own key is among them.
func (r *joinRun) prepare(ctx context.Context, t module.Target, node, via pve.NodeState, addr string) error {
	keys := node.AuthorizedKeys
	if r.args.Method != "api" {
		own, err := act(ctx, t, node.Host, transport.Command{Script: ownKeyScript, Mutates: true})
		if err != nil {
			return fmt.Errorf("%s: make root's SSH key: %w", node.Host, err)
		}
		keys = append(keys[:len(keys):len(keys)], pve.KeyLines([]byte(own))...)
	}
	// Without quorum nothing can be written; then the keys are there from the first try, or the login below fails.
	if via.Writable {
		if err := letIn(ctx, t, via.Host, missingKeys(keys, via.AuthorizedKeys)); err != nil {
			return err
		}
	}
	if r.args.Method == "api" {
		return nil
	}
	if len(via.HostKeys) == 0 {
		return fmt.Errorf("%s: its SSH host keys could not be read (look: ls /etc/ssh/ssh_host_*_key.pub)", via.Host)
	}
	known := make([]string, len(via.HostKeys))
	for i, line := range via.HostKeys {
		fields := strings.Fields(line)
		known[i] = addr + " " + fields[0] + " " + fields[1]
	}
	_, err := act(ctx, t, node.Host, transport.Command{Script: trustScript, Argv: []string{addr}, Stdin: []byte(strings.Join(known, "\n")), Mutates: true})
	if err != nil {
		return fmt.Errorf("%s: log in to %s as root at %s with /root/.ssh/id_rsa (look: ssh -o BatchMode=yes root@%s true): %w", node.Host, via.Host, addr, addr, err)
	}
	return nil
}

func act(ctx context.Context, t module.Target, host string, c transport.Command) (string, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return "", err
	}
	r, err := conn.Run(ctx, c)
	if err == nil {
		err = r.Err(c)
	}
	return r.Out(), err
}

var fingerprintForm = regexp.MustCompile(`^([A-F0-9]{2}:){31}[A-F0-9]{2}$`)

// readFingerprint reads the fingerprint of the member's API certificate over SSH, so that nobody has to compare it.
func readFingerprint(ctx context.Context, t module.Target, host string) (string, error) {
	out, err := act(ctx, t, host, transport.Command{
		Script: "# read the fingerprint of the API's certificate\nf=/etc/pve/local/pveproxy-ssl.pem; [ -f $f ] || f=/etc/pve/local/pve-ssl.pem\nopenssl x509 -noout -fingerprint -sha256 -in $f",
	})
	if err != nil {
		return "", fmt.Errorf("%s: read the fingerprint of its certificate: %w", host, err)
	}
	_, fingerprint, _ := strings.Cut(out, "=")
	fingerprint = strings.ToUpper(strings.TrimSpace(fingerprint))
	if !fingerprintForm.MatchString(fingerprint) {
		return "", fmt.Errorf("%s: %q is no fingerprint of a certificate", host, out)
	}
	return fingerprint, nil
}
