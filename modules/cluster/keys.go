package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
)

// keyBlob is the part of a public key line that is the key itself: the word after its type, whatever options stand
// before and comments behind.
func keyBlob(line string) string {
	fields := strings.Fields(line)
	for i, f := range fields[:max(len(fields)-1, 0)] {
		if strings.HasPrefix(f, "ssh-") || strings.HasPrefix(f, "ecdsa-sha2-") || strings.HasPrefix(f, "sk-ssh-") || strings.HasPrefix(f, "sk-ecdsa-") {
			return fields[i+1]
		}
	}
	return ""
}

// keyName shows a key to people without its bulk: type and comment.
func keyName(line string) string {
	blob := keyBlob(line)
	fields := strings.Fields(line)
	i := slices.Index(fields, blob)
	if blob == "" || i < 1 {
		return "a key"
	}
	return strings.Join(append([]string{fields[i-1]}, fields[i+1:]...), " ")
}

// missingKeys are the keys that are among wanted and not among have.
func missingKeys(wanted, have []string) []string {
	known := map[string]bool{}
	for _, line := range have {
		known[keyBlob(line)] = true
	}
	var missing []string
	for _, line := range wanted {
		if blob := keyBlob(line); blob != "" && !known[blob] {
			known[blob] = true
			missing = append(missing, line)
		}
	}
	return missing
}

// letInScript adds the keys on standard input, "BLOB LINE" each, to the cluster's authorized_keys, unless their blob is
// there. The file is replaced as a whole: pmxcfs renames atomically, and a cut connection leaves the old one.
const letInScript = `# let keys in on the cluster
set -e
f=/etc/pve/priv/authorized_keys
t=$f.pxrun
new=
nl='
'
while read -r blob line; do
	if ! grep -qF -- "$blob" "$f" 2>/dev/null; then new=$new$line$nl; fi
done
[ -n "$new" ] || exit 0
old=$(cat "$f" 2>/dev/null || :)
if [ -n "$old" ]; then printf '%s\n%s' "$old" "$new" >"$t"; else printf '%s' "$new" >"$t"; fi
mv "$t" "$f"
`

// letIn lets the holders of public keys log in to every node of the cluster that host is in.
func letIn(ctx context.Context, t module.Target, host string, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	var lines strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&lines, "%s %s\n", keyBlob(k), k)
	}
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return err
	}
	c := transport.Command{Script: letInScript, Stdin: []byte(lines.String()), Mutates: true}
	r, err := conn.Run(ctx, c)
	if err == nil {
		err = r.Err(c)
	}
	if err != nil {
		return fmt.Errorf("%s: add keys to /etc/pve/priv/authorized_keys: %w", host, err)
	}
	return nil
}

// keepKeys sees to it that every key that opened a node before still does. Proxmox replaces the file when a node joins,
// and whoever it locks out cannot mend it.
func keepKeys(ctx context.Context, t module.Target, host string, before []string) error {
	now := readOne(ctx, t, host)
	if now.Err != nil {
		return now.Err
	}
	lost := missingKeys(before, now.AuthorizedKeys)
	if len(lost) == 0 {
		return nil
	}
	t.Log(host, fmt.Sprintf("putting back %d keys that root's authorized_keys lost", len(lost)))
	return letIn(ctx, t, host, lost)
}

func readOne(ctx context.Context, t module.Target, host string) pve.NodeState {
	return pve.ReadCluster(ctx, []string{host}, pve.Options{Keys: true}, t.Conn)[0]
}

// keyNames shows keys to people, in order.
func keyNames(keys []string) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = keyName(k)
	}
	slices.Sort(names)
	return names
}
