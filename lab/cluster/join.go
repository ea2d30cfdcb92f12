package cluster

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

func addOptions() map[string]pvetool.Option {
	return withLinks(map[string]pvetool.Option{
		"nodeid": {Kind: pvetool.Int, Check: pvetool.AtLeast(1)}, "votes": {Kind: pvetool.Int, Check: pvetool.AtLeast(0)},
		"force": {Kind: pvetool.Bool}, "use_ssh": {Kind: pvetool.Bool}, "fingerprint": {Check: checkFingerprint}, "hostname": {},
	})
}

// pvecmAdd is `pvecm add`, run on the node that joins.
func (n *Node) pvecmAdd(ctx context.Context, p *machine.Proc, args []string) int {
	o, perr := pvetool.Parse(args, addOptions())
	if perr == nil && len(o.Positional) != 1 {
		perr = &pvetool.ParamError{Head: "not enough arguments"}
		if len(o.Positional) > 1 {
			perr = &pvetool.ParamError{Head: "too many arguments"}
		}
	}
	if perr != nil {
		return pvetool.Usage(p, perr, pvecmUsage["add"])
	}
	if p.Dir == "/etc/pve" || strings.HasPrefix(p.Dir, "/etc/pve/") {
		return pvetool.Die(p, pvetool.ExitDie, "Navigate out of /etc/pve before running 'pvecm add', for example by running 'cd'.")
	}
	host := o.Positional[0]
	return n.task(ctx, p, "clusterjoin", func(ctx context.Context, out io.Writer) error {
		if !o.Is("use_ssh") {
			input := &lineReader{r: p.Stdin}
			password, ok := input.line()
			if !ok {
				return errors.New("EOF while reading password")
			}
			return n.joinByAPI(ctx, p, out, host, o, password, input)
		}
		return n.joinBySSH(ctx, p, out, host, o)
	})
}

// lineReader reads lines byte by byte, so that nothing is taken that a later reader should get.
type lineReader struct{ r io.Reader }

func (l *lineReader) line() (string, bool) {
	var line []byte
	one := make([]byte, 1)
	for {
		k, err := l.r.Read(one)
		if k == 1 {
			if one[0] == '\n' {
				return string(line), true
			}
			line = append(line, one[0])
		}
		if err != nil {
			return string(line), len(line) > 0
		}
	}
}

// joinable checks what Proxmox checks on the joining node first.
func (n *Node) joinable(ctx context.Context, p *machine.Proc, out io.Writer, o pvetool.Options) error {
	v := p.View()
	var problems []string
	if exists(v, authkeyPath) {
		problems = append(problems, "authentication key '"+authkeyPath+"' already exists")
	}
	if n.hasConf() {
		problems = append(problems, "cluster config '/etc/pve/corosync.conf' already exists")
	}
	if n.hasGuests() {
		problems = append(problems, "this host already contains virtual guests")
	}
	if pvetool.Run(ctx, p, io.Discard, io.Discard, "corosync-quorumtool", "-l") == 0 {
		problems = append(problems, "corosync is already running, is this node already in a cluster?!")
	}
	local := n.localAddrs()
	if own := n.ownAddress(); !local[own] {
		problems = append(problems, fmt.Sprintf("local node address: cannot use IP '%s', not found on local node!", own))
	}
	addrs, _ := linksOf(o)
	for _, link := range slices.Sorted(maps.Keys(addrs)) {
		a := n.knownAddr(addrs[link])
		switch {
		case !a.IsValid():
			problems = append(problems, fmt.Sprintf("link%d: cannot use '%s': it does not resolve to an IP address", link, addrs[link]))
		case !local[a]:
			problems = append(problems, fmt.Sprintf("link%d: cannot use IP '%s', not found on local node!", link, a))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	fmt.Fprintln(out, "detected the following error(s):")
	for _, problem := range problems {
		fmt.Fprintln(out, "* "+problem)
	}
	if o.Is("force") {
		fmt.Fprintln(out, "WARNING : detected error but forced to continue!")
		return nil
	}
	return errors.New("Check if node may join a cluster failed!") //nolint:revive,staticcheck // pvecm's words
}

func (n *Node) hasGuests() bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.pmx.running && len(n.pmx.db.guests()) > 0
}

// joinBySSH is the way of --use_ssh: everything that the member must do is asked for over SSH.
func (n *Node) joinBySSH(ctx context.Context, p *machine.Proc, out io.Writer, host string, o pvetool.Options) error {
	if err := n.phase(ctx, "join:start", 300*time.Millisecond); err != nil {
		return err
	}
	if err := n.joinable(ctx, p, out, o); err != nil {
		return err
	}
	if err := n.prepareSSH(ctx, p, p.View()); err != nil {
		return err
	}
	if code := pvetool.Run(ctx, p, io.Discard, io.Discard, "ssh-copy-id", "-i", "/root/.ssh/id_rsa", "root@"+host); code != 0 {
		return fmt.Errorf("unable to copy ssh ID: exit code %d", code)
	}
	if err := n.phase(ctx, "join:copied", 600*time.Millisecond); err != nil {
		return err
	}
	if version, code := pvetool.Output(ctx, p, "ssh", host, "-o", "BatchMode=yes", "pvecm", "apiver"); code != 0 || strings.TrimSpace(version) != "1" {
		return errors.New("error: unsupported old API version on remote node")
	}
	command := append([]string{"ssh", host, "-o", "BatchMode=yes"}, n.addnodeCommand(out, o)...)
	if code := pvetool.Run(ctx, p, out, out, command...); code != 0 {
		return fmt.Errorf("unable to add node: command failed (%s)", strings.Join(command, " "))
	}
	if err := n.phase(ctx, "join:added", 0); err != nil {
		return err
	}
	fmt.Fprintln(out, "copy corosync auth key")
	key, code := pvetool.Output(ctx, p, "ssh", "-o", "BatchMode=yes", "root@"+host, "cat", authkeyPath)
	conf, code2 := pvetool.Output(ctx, p, "ssh", "-o", "BatchMode=yes", "root@"+host, "cat", "/etc/pve/corosync.conf")
	if code != 0 || code2 != 0 || key == "" || conf == "" {
		return fmt.Errorf("can't rsync data from host '%s'", host)
	}
	if err := n.phase(ctx, "join:fetched", 200*time.Millisecond); err != nil {
		return err
	}
	return n.finishJoin(ctx, p, out, conf, key)
}

// addnodeCommand is what the joining node has the member run. It is forced, always.
func (n *Node) addnodeCommand(out io.Writer, o pvetool.Options) []string {
	command := []string{"pvecm", "addnode", n.name, "--force", "1"}
	for _, name := range []string{"nodeid", "votes"} {
		if value, ok := o.Values[name]; ok {
			command = append(command, "--"+name, value)
		}
	}
	addrs, _ := linksOf(o)
	if len(addrs) == 0 {
		own := n.ownAddress().String()
		fmt.Fprintf(out, "No cluster network links passed explicitly, fallback to local node IP '%s'\n", own)
		return append(command, "--new_node_ip", own, "--apiversion", "1")
	}
	for _, link := range slices.Sorted(maps.Keys(addrs)) {
		command = append(command, fmt.Sprintf("--link%d", link), addrs[link])
	}
	return append(command, "--apiversion", "1")
}

// joinByAPI is the way with root's password.
func (n *Node) joinByAPI(ctx context.Context, p *machine.Proc, out io.Writer, host string, o pvetool.Options, password string, input *lineReader) error {
	if err := n.joinable(ctx, p, out, o); err != nil {
		return err
	}
	if err := n.prepareSSH(ctx, p, p.View()); err != nil {
		return err
	}
	fmt.Fprintf(out, "Establishing API connection with host '%s'\n", host)
	if err := n.phase(ctx, "join:connect", 400*time.Millisecond); err != nil {
		return err
	}
	peer, err := n.apiPeer(host)
	if err != nil {
		return err
	}
	if err := verifyFingerprint(out, host, peer.apiFingerprint(peer.name), o, input); err != nil {
		return err
	}
	if !peer.m.CheckPassword("root", password) {
		return errors.New("401 authentication failure")
	}
	fmt.Fprintf(out, "Login succeeded.\ncheck cluster join API version\n")
	if err := n.phase(ctx, "join:login", 300*time.Millisecond); err != nil {
		return err
	}
	request := addRequest{node: n.name, apiVersion: 1, force: o.Is("force"), nodeID: o.Int("nodeid"), votes: 1}
	if _, given := o.Values["votes"]; given {
		request.votes = o.Int("votes")
	}
	request.links, _ = linksOf(o)
	if len(request.links) == 0 {
		request.fallback = n.ownAddress().String()
		fmt.Fprintf(out, "No cluster network links passed explicitly, fallback to local node IP '%s'\n", request.fallback)
	}
	fmt.Fprintln(out, "Request addition of this node")
	var messages bytes.Buffer
	if err := peer.addNode(ctx, peer.m.FS.View, &messages, request); err != nil {
		fmt.Fprintf(out, "An error occurred on the cluster node: %s\n", trimLines(err.Error()))
		return errors.New("Cluster join aborted!") //nolint:revive,staticcheck // pvecm's words
	}
	if err := n.phase(ctx, "join:added", 300*time.Millisecond); err != nil {
		return err
	}
	key, err1 := peer.m.FS.ReadFile(authkeyPath)
	conf, err2 := peer.m.FS.ReadFile("/etc/pve/corosync.conf")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	fmt.Fprintln(out, "Join request OK, finishing setup locally")
	return n.finishJoin(ctx, p, out, string(conf), string(key))
}

// apiPeer finds the member whose API answers at a host.
func (n *Node) apiPeer(host string) (*Node, error) {
	unreachable := fmt.Errorf("500 Can't connect to %s:8006 (No route to host)", host)
	m := n.w.find(host)
	if m == nil || !m.Up() {
		return nil, unreachable
	}
	peer := n.w.Node(m.Name())
	to := n.knownAddr(host)
	if peer == nil || !to.IsValid() || !n.w.path(n.ip, to).Reachable {
		return nil, unreachable
	}
	if state, _ := m.Unit("pveproxy.service"); state.Active != "active" {
		return nil, fmt.Errorf("500 Can't connect to %s:8006 (Connection refused)", host)
	}
	return peer, nil
}

func verifyFingerprint(out io.Writer, host, actual string, o pvetool.Options, input *lineReader) error {
	if wanted, given := o.Values["fingerprint"]; given {
		if !strings.EqualFold(wanted, actual) {
			return fmt.Errorf("fingerprint '%s' not verified, abort!", actual) //nolint:revive // pvecm's words
		}
		return nil
	}
	fmt.Fprintf(out, "The authenticity of host '%s' can't be established.\nX509 SHA256 key fingerprint is %s.\n", host, actual)
	fmt.Fprint(out, "Are you sure you want to continue connecting (yes/no)? ")
	answer, answered := input.line()
	if !answered {
		fmt.Fprintln(out, "Use of uninitialized value $answer in pattern match (m//) at /usr/share/perl5/PVE/APIClient/LWP.pm line 256, <STDIN> line 1.")
	}
	if answer != "yes" {
		return errors.New("Fingerprint not verified, abort!") //nolint:revive,staticcheck // pvecm's words
	}
	return nil
}

// finishJoin is the local part of a join: the node's own database goes away, and the cluster's comes.
func (n *Node) finishJoin(ctx context.Context, p *machine.Proc, out io.Writer, conf, key string) error {
	v := p.View()
	if err := put(v, authkeyPath, []byte(key), 0o400); err != nil {
		return openError(authkeyPath, err)
	}
	if err := put(v, localConfPath, []byte(conf), 0o644); err != nil {
		return openError(localConfPath, err)
	}
	fmt.Fprintln(out, "stopping pve-cluster service")
	if err := n.phase(ctx, "join:stopping", 200*time.Millisecond); err != nil {
		return err
	}
	if n.units(ctx, n.m.StopUnit, "pve-cluster") != nil {
		return errors.New("can't stop pve-cluster service: command 'systemctl stop pve-cluster' failed: exit code 1")
	}
	if err := n.phase(ctx, "join:stopped", 600*time.Millisecond); err != nil {
		return err
	}
	if err := n.backupDatabase(v, out); err != nil {
		return err
	}
	if err := n.phase(ctx, "join:backed-up", 1200*time.Millisecond); err != nil {
		return err
	}
	if n.units(ctx, n.m.StartUnit, "pve-cluster", "corosync") != nil {
		return errors.New("starting pve-cluster failed: command 'systemctl start corosync pve-cluster' failed: exit code 1")
	}
	if err := n.awaitQuorum(ctx, out); err != nil {
		return err
	}
	if err := n.phase(ctx, "join:quorate", 0); err != nil {
		return err
	}
	if err := n.updateCerts(v, true, func(line string) { fmt.Fprintln(out, line) }); err != nil {
		return err
	}
	fmt.Fprintln(out, "generated new node certificate, restart pveproxy and pvedaemon services")
	if err := n.phase(ctx, "join:certs", 3*time.Second); err != nil {
		return err
	}
	if err := n.units(ctx, n.m.ReloadUnit, "pvedaemon", "pveproxy"); err != nil {
		return err
	}
	fmt.Fprintf(out, "successfully added node '%s' to cluster.\n", n.name)
	return nil
}

// backupDatabase dumps the node's own database and removes it.
func (n *Node) backupDatabase(v *vfs.View, out io.Writer) error {
	name := fmt.Sprintf("/var/lib/pve-cluster/backup/config-%d.sql.gz", n.now().Unix())
	fmt.Fprintf(out, "backup old database to '%s'\n", name)
	mark := n.readMark()
	var dump bytes.Buffer
	z := gzip.NewWriter(&dump)
	fmt.Fprintf(z, "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n-- %s", strings.ReplaceAll(mark, "\x00", " "))
	n.w.mu.Lock()
	if db := n.w.shelves[mark]; db != nil {
		for _, file := range db.names() {
			fmt.Fprintf(z, "INSERT INTO tree VALUES(0,'%s');\n", file)
		}
	}
	n.w.mu.Unlock()
	fmt.Fprintf(z, "COMMIT;\n")
	if err := z.Close(); err != nil {
		return err
	}
	if err := v.MkdirAll("/var/lib/pve-cluster/backup", 0o700); err != nil {
		return err
	}
	if err := v.WriteFile(name, dump.Bytes(), 0o644); err != nil {
		return fmt.Errorf("can't backup old database: %s", machine.Reason(err))
	}
	return v.Remove(configDB)
}

// awaitQuorum waits as long as it takes, as the real one does.
func (n *Node) awaitQuorum(ctx context.Context, out io.Writer) error {
	if err := n.w.interrupt(ctx, n.name, "join:waiting"); err != nil {
		return err
	}
	if n.canWrite() {
		return nil
	}
	fmt.Fprint(out, "waiting for quorum...")
	for !n.canWrite() {
		if err := n.w.clock.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "OK")
	return nil
}
