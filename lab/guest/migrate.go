package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

var vmMigrateOptions = map[string]pvetool.Option{
	"online": flag, "force": flag, "with-local-disks": flag, "targetstorage": text, "migration_network": text, "migration_type": text,
	"bwlimit": num, "with-conntrack-state": flag,
}

var ctMigrateOptions = map[string]pvetool.Option{
	"online": flag, "restart": flag, "timeout": num, "target-storage": text, "bwlimit": num,
}

// migration is one move of a guest.
type migration struct {
	*actor
	k      *kind
	id     int
	target string
	dest   *Host

	online, force, withDisks, restart, insecure bool
	storageMap                                  storageMap
	network                                     string // CIDR of the migration network; "" is the node's own address
	limit                                       int64  // bytes a second; 0 is none
	timeout                                     time.Duration

	conf    *Config
	volumes []volume
	running bool
	ip      string
	begun   time.Duration
	say     func(string)
	failed  bool // it went on over errors
}

// migrate is qm migrate and pct migrate.
func migrate(ctx context.Context, c *call) int {
	m := &migration{actor: c.actor, k: c.k, id: c.id, target: c.args[0]}
	m.read(c.o)
	err := m.refusal(func(line string) { c.p.Println(line) })
	var param *pvetool.ParamError
	switch {
	case errors.As(err, &param):
		pvetool.Usage(c.p, param, c.k.tool()+" migrate <vmid> <target> [OPTIONS]")
		return pvetool.ExitNoEntry
	case err != nil:
		return c.fail(err)
	case c.managed(c.k, c.id):
		return c.requestHA(ctx, "hamigrate", fmt.Sprintf("Requesting HA migration for %s %d to node %s", c.k.noun, c.id, m.target),
			"migrate", c.sid(), m.target)
	}
	return c.task(ctx, c.k.migrateTask(), m.do)
}

// read takes over the options of a command.
func (m *migration) read(o pvetool.Options) {
	m.online, m.force, m.withDisks, m.restart = o.Is("online"), o.Is("force"), o.Is("with-local-disks"), o.Is("restart")
	m.network, m.insecure = o.Values["migration_network"], o.Values["migration_type"] == "insecure"
	m.limit = int64(o.Int("bwlimit")) << 10
	m.timeout = 180 * time.Second
	if _, ok := o.Values["timeout"]; ok {
		m.timeout = time.Duration(o.Int("timeout")) * time.Second
	}
	m.storageMap = parseStorageMap(o.Values["targetstorage"] + o.Values["target-storage"])
}

// storageMap says where volumes go: by source storage, "" for all others. Identity is without an entry.
type storageMap map[string]string

func parseStorageMap(text string) storageMap {
	out := storageMap{}
	for pair := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		from, to, ok := strings.Cut(pair, ":")
		switch {
		case ok:
			out[from] = to
		case pair != "1":
			out[""] = pair
		}
	}
	return out
}

// of is where a volume of a storage goes.
func (s storageMap) of(storage string) string {
	if to, ok := s[storage]; ok {
		return to
	}
	if to, ok := s[""]; ok {
		return to
	}
	return storage
}

// String is the map as an option has it.
func (s storageMap) String() string {
	var parts []string
	for from, to := range s {
		if from == "" {
			parts = append(parts, to)
		} else {
			parts = append(parts, from+":"+to)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// destination is where a volume of a storage goes.
func (m *migration) destination(storage string) string { return m.storageMap.of(storage) }

// refusal is what is wrong before a task is made (reference §6.2).
func (m *migration) refusal(warn func(string)) error {
	if m.target == m.name {
		return &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"target: target is local node."}}
	}
	if !m.node.Writable() {
		return errors.New("cluster not ready - no quorum?")
	}
	if !slices.Contains(m.node.Members(), m.target) {
		return &statusError{fmt.Sprintf("no such cluster node '%s'", m.target), pvetool.ExitNoEntry}
	}
	conf, err := m.load(m.k, m.id)
	if err != nil {
		return err
	}
	if err := locked(m.k, conf); err != nil {
		return err
	}
	switch running := m.runs(m.id); {
	case running && m.k == vm && !m.online:
		return &statusError{"can't migrate running VM without --online", 25}
	case running && m.k == ct && !m.online && !m.restart:
		return errors.New("can't migrate running container without --online or --restart")
	case running && m.k == vm:
		if jobs := m.replication(m.id); len(jobs) > 0 && !m.force && !slices.ContainsFunc(jobs, func(j job) bool { return j.target == m.target }) {
			return fmt.Errorf("Cannot live-migrate replicated VM to node '%s' - not a replication target. Use 'force' to override.", m.target) //nolint:staticcheck,revive // Proxmox's words
		}
	case m.online && m.k == vm:
		warn("VM isn't running. Doing offline migration instead.")
		m.online = false
	}
	if m.k == ct {
		return nil // its storages are looked at in the task
	}
	return m.storageRefusal(conf)
}

// storageRefusal is the check of all storages of a virtual machine on both nodes.
func (m *migration) storageRefusal(conf *Config) error {
	all := m.storages()
	for _, to := range m.storageMap {
		if err := checkStorage(all, to, m.target); err != nil {
			return err
		}
	}
	for _, d := range m.k.drivesOf(conf.Values) {
		sid, _, ok := d.volume()
		if !ok {
			continue
		}
		if err := checkStorage(all, sid, m.name); err != nil {
			return err
		}
		to := m.destination(sid)
		if err := checkStorage(all, to, m.target); err != nil {
			return err
		}
		if !d.cdrom && !slices.Contains(all[to].content, m.k.diskType) {
			return fmt.Errorf("%s: content type '%s' is not available on storage '%s'", d.file, m.k.diskType, to)
		}
	}
	return nil
}

// log writes a line of the migration's log, with the time of day before it.
func (m *migration) log(format string, args ...any) {
	m.say(m.m.Now().Format("2006-01-02 15:04:05 ") + fmt.Sprintf(format, args...))
}

func (m *migration) logError(err error) { m.log("ERROR: %s", err) }

func (m *migration) duration() string {
	d := m.m.Clock().Elapsed() - m.begun
	return fmt.Sprintf("%02d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
}

// Ends of a migration's task.
var (
	errAborted  = errors.New("migration aborted")
	errProblems = errors.New("migration problems")
)

// do is the worker: what every migration has in common.
func (m *migration) do(ctx context.Context, say func(string)) error {
	m.say, m.begun = say, m.m.Clock().Elapsed()
	if err := m.findTarget(); err != nil {
		return err
	}
	err := m.move(ctx)
	switch {
	case killed(ctx, err):
		return pvetool.ErrKilled
	case err != nil:
		m.logError(fmt.Errorf("migration aborted (duration %s): %w", m.duration(), err))
		return errAborted
	case m.failed:
		m.logError(fmt.Errorf("migration finished with problems (duration %s)", m.duration()))
		return errProblems
	}
	m.log("migration finished successfully (duration %s)", m.duration())
	return nil
}

// killed reports whether the program ends without doing anything more: by a fault that says so, by SIGKILL, or with the power.
func killed(ctx context.Context, err error) bool {
	if errors.Is(err, pvetool.ErrKilled) {
		return true
	}
	var sig machine.Signal
	return ctx.Err() != nil && errors.As(context.Cause(ctx), &sig) && sig == machine.SIGKILL
}

// findTarget finds the address by which data goes to the target.
func (m *migration) findTarget() error {
	m.dest = m.w.Host(m.target)
	if m.dest == nil {
		return fmt.Errorf("no such cluster node '%s'", m.target)
	}
	m.ip = m.dest.node.Address().String()
	if m.network == "" {
		if dc := m.datacenter("migration"); dc["network"] != "" {
			m.network, m.insecure = dc["network"], dc["type"] == "insecure"
		}
	}
	if m.network == "" {
		return nil
	}
	prefix, err := netip.ParsePrefix(m.network)
	if err != nil {
		return fmt.Errorf("value '%s' does not look like a valid CIDR network", m.network)
	}
	for _, addr := range m.dest.m.Addresses() {
		if prefix.Contains(addr) {
			m.ip = addr.String()
			return nil
		}
	}
	return fmt.Errorf("failed to get ip for node '%s' in network '%s'", m.target, m.network)
}

// ssh runs a command on the target as root, as migrations do. Its output is logged with the target's name before it.
func (m *migration) ssh(ctx context.Context, argv ...string) int {
	line := []string{
		"/usr/bin/ssh", "-e", "none", "-o", "BatchMode=yes", "-o", "HostKeyAlias=" + m.target,
		"-o", "UserKnownHostsFile=/etc/pve/nodes/" + m.target + "/ssh_known_hosts", "-o", "GlobalKnownHostsFile=none", "root@" + m.ip,
	}
	out := &prefixed{say: func(text string) { m.log("[%s] %s", m.target, text) }}
	defer out.flush()
	return pvetool.Run(ctx, m.proc, out, out, append(line, argv...)...)
}

// prefixed passes lines on.
type prefixed struct {
	say  func(string)
	rest string
}

func (w *prefixed) Write(p []byte) (int, error) {
	w.rest += string(p)
	for {
		line, rest, ok := strings.Cut(w.rest, "\n")
		if !ok {
			return len(p), nil
		}
		w.rest = rest
		w.say(strings.TrimRight(line, "\r"))
	}
}

func (w *prefixed) flush() {
	if w.rest != "" {
		w.say(w.rest)
	}
	w.rest = ""
}

// connect proves that the target can be reached.
func (m *migration) connect(ctx context.Context) error {
	if code := pvetool.Run(ctx, m.proc, nil, nil, "/usr/bin/ssh", "-e", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "HostKeyAlias="+m.target,
		"-o", "UserKnownHostsFile=/etc/pve/nodes/"+m.target+"/ssh_known_hosts", "-o", "GlobalKnownHostsFile=none", "root@"+m.ip, "/bin/true"); code == 0 {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if m.network != "" {
		return fmt.Errorf("Can't connect to destination address (%s) using public key authentication", m.ip) //nolint:staticcheck // Proxmox's words
	}
	return errors.New("Can't connect to destination address using public key") //nolint:staticcheck // Proxmox's words
}

// move does the phases of a migration. An error aborts it; m.failed says that it went on over errors.
func (m *migration) move(ctx context.Context) error {
	var err error
	if m.conf, err = m.load(m.k, m.id); err != nil {
		return err
	}
	if err := locked(m.k, m.conf); err != nil {
		return err
	}
	m.running = m.runs(m.id)
	if m.k == ct {
		return m.moveContainer(ctx)
	}
	return m.moveMachine(ctx)
}

// lock sets or takes away the lock in the guest's config.
func (m *migration) lock(ctx context.Context, on bool) error {
	return m.change(ctx, m.k, m.id, func(c *Config) error {
		if !on {
			delete(c.Values, "lock")
			return nil
		}
		if err := locked(m.k, c); err != nil {
			return err
		}
		c.Values["lock"] = "migrate"
		return nil
	})
}

// cleanup takes the lock away after a failure, as signal handlers do even when the program is being ended.
func (m *migration) cleanup(ctx context.Context) {
	a := *m
	a.actor = m.outliving()
	if err := a.lock(context.WithoutCancel(ctx), false); err != nil {
		m.logError(err)
	}
}

// reassign moves the config to the target's folder, with the volumes' new names and the replication turned round.
func (m *migration) reassign(ctx context.Context) error {
	unlock, err := m.lockFile(ctx, m.k, m.id)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := m.load(m.k, m.id)
	if err != nil {
		return err
	}
	for _, v := range m.volumes {
		c.replace(m.k, v.id, v.to)
	}
	if err := m.store(m.k, m.id, c); err != nil {
		return err
	}
	if err := m.view.Rename(configPath(m.k, m.name, m.id), configPath(m.k, m.target, m.id)); err != nil {
		return fmt.Errorf("Failed to move config to node '%s' - rename failed: %s", m.target, machine.Reason(err)) //nolint:staticcheck // Proxmox's words
	}
	m.w.mu.Lock()
	moved := m.w.moved
	m.w.mu.Unlock()
	if moved != nil {
		moved(m.id, m.name, m.target)
	} else {
		m.switchReplication()
	}
	return nil
}

// replace puts another volume in a volume's place everywhere.
func (c *Config) replace(k *kind, from, to string) {
	sections := []map[string]string{c.Values, c.Pending}
	for _, s := range c.Snapshots {
		sections = append(sections, s)
	}
	for _, values := range sections {
		for _, d := range k.drivesOf(values) {
			if d.file == from {
				values[d.key] = d.with(to)
			}
		}
	}
}

// unlockOnTarget takes the lock out of the config that now lies on the target.
func (m *migration) unlockOnTarget(ctx context.Context) error {
	if code := m.ssh(ctx, m.k.tool(), "unlock", fmt.Sprint(m.id)); code != 0 {
		return fmt.Errorf("failed to clear migrate lock: command '%s unlock %d' failed: exit code %d", m.k.tool(), m.id, code)
	}
	return nil
}

// reachable reports whether the target is there.
func (m *migration) reachable(boot string) bool {
	addr, err := netip.ParseAddr(m.ip)
	return err == nil && m.dest.m.Up() && m.dest.m.BootID() == boot && m.w.cluster.Path(m.node.Address(), addr).Reachable
}

// job is a replication job of a guest.
type job struct {
	id, target string
	removed    bool
}

const replicationFile = "/etc/pve/replication.cfg"

// replication lists the replication jobs of a guest.
func (a *actor) replication(id int) []job {
	content, err := a.view.ReadFile(replicationFile)
	if err != nil {
		return nil
	}
	var out []job
	for _, s := range pvetool.ParseSections(string(content)) {
		if guest, _, _ := strings.Cut(s.ID, "-"); guest == fmt.Sprint(id) {
			out = append(out, job{id: s.ID, target: s.Values["target"], removed: s.Values["remove_job"] != ""})
		}
	}
	return out
}

// switchReplication turns a job that led to the target round.
func (m *migration) switchReplication() {
	content, err := m.view.ReadFile(replicationFile)
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return
	}
	all := pvetool.ParseSections(string(content))
	changed := false
	for i := range all {
		if guest, _, _ := strings.Cut(all[i].ID, "-"); guest == fmt.Sprint(m.id) && all[i].Values["target"] == m.target {
			all[i].Values["target"], changed = m.name, true
			if _, ok := all[i].Values["source"]; ok {
				all[i].Values["source"] = m.target
			}
		}
	}
	if !changed {
		return
	}
	if err := m.view.WriteFile(replicationFile, []byte(pvetool.FormatSections(all, map[string][]string{"local": {"target"}})), 0o640); err != nil {
		m.logError(fmt.Errorf("switch replication job target failed: %s", machine.Reason(err)))
		m.failed = true
	}
}
