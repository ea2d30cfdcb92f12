package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// volume is a volume that must be copied to the target.
type volume struct {
	id, to   string
	drive    string
	size     int64
	attached bool // to the current config
	live     bool // by mirroring, while the machine runs
	synced   bool // a replica is on the target: only what changed since is sent
}

// devices are the options of local devices that keep a machine on its node.
var deviceKeys = []string{"usb", "hostpci", "serial", "parallel"}

// localDevices are a machine's devices of this node, mapped those that a resource mapping provides.
func localDevices(c *Config) (local, mapped []string) {
	for key, value := range c.Values {
		opts := properties(value)
		family := strings.TrimRight(key, "0123456789")
		switch {
		case slices.Contains(deviceKeys, family) && opts["mapping"] != "", family == "virtiofs":
			mapped = append(mapped, key)
		case family == "usb" && (opts[""] == "spice" || opts["host"] == "spice"), family == "serial" && opts[""] == "socket":
		case slices.Contains(deviceKeys, family), key == "ivshmem", key == "amd-sev", key == "intel-tdx":
			local = append(local, key)
		}
	}
	slices.Sort(local)
	slices.Sort(mapped)
	return local, mapped
}

// findVolumes lists the volumes that must be copied, and says why they cannot be.
func (m *migration) findVolumes(say func(v, from string)) ([]volume, []string) {
	all := m.storages()
	jobs := m.replication(m.id)
	replicated := slices.ContainsFunc(jobs, func(j job) bool { return j.target == m.target })
	var out []volume
	var problems []string
	refuse := func(file, why string) {
		problems = append(problems, fmt.Sprintf("can't migrate local disk '%s': %s", file, why))
	}
	seen := map[string]bool{}
	consider := func(d drive, from string, attached bool) {
		if d.file == "none" || d.file == "" || seen[d.file] {
			return
		}
		seen[d.file] = true
		if d.file == "cdrom" {
			problems = append(problems, "can't migrate local cdrom drive")
			return
		}
		sid, name, ok := d.volume()
		if !ok {
			refuse(d.file, "local file/device")
			return
		}
		at := all[sid]
		if at == nil || at.shared {
			return
		}
		say(d.file, from)
		why := m.volumeProblem(d, name, at, attached)
		switch {
		case why == "" && !slices.Contains(migratable, at.kind):
			problems = append(problems, fmt.Sprintf("can't migrate '%s' - storage type '%s' not supported", d.file, at.kind))
		case why != "":
			refuse(d.file, why)
		default:
			out = append(out, volume{id: d.file, drive: d.key, size: d.size(), attached: attached, live: attached && m.running && m.k == vm && !d.cloud, synced: replicated && d.opts["replicate"] != "0"})
		}
	}
	for _, d := range m.k.drivesOf(m.conf.Values) {
		from := "attached"
		if d.unused {
			from = "via storage"
		}
		if m.k == ct {
			from = "in current VM config"
		}
		consider(d, from, !d.unused)
	}
	for name, values := range m.conf.Snapshots {
		for _, d := range m.k.drivesOf(values) {
			consider(d, "in snapshot "+name, false)
		}
		if state := values["vmstate"]; state != "" {
			consider(drive{key: "vmstate", file: state, opts: map[string]string{"": state}}, "in snapshot "+name, false)
		}
	}
	slices.SortFunc(out, func(a, b volume) int { return strings.Compare(a.drive, b.drive) })
	return m.named(out), problems
}

// volumeProblem is why one local volume cannot be copied; "" if it can.
func (m *migration) volumeProblem(d drive, name string, at *storage, attached bool) string {
	base := baseName(name)
	inSnapshot := false
	for _, values := range m.conf.Snapshots {
		inSnapshot = inSnapshot || slices.ContainsFunc(m.k.drivesOf(values), func(s drive) bool { return s.file == d.file })
	}
	carries := at.kind == "zfspool" || at.kind == "btrfs" || formatOf(name) == "qcow2"
	switch {
	case d.cdrom && !d.cloud:
		return "local cdrom image"
	case attached && m.running && m.k == vm && !m.withDisks && !d.cloud:
		return "can't live migrate attached local disks without with-local-disks option"
	case inSnapshot && m.running && m.k == vm && len(m.replication(m.id)) == 0:
		return "online storage migration not possible if non-replicated snapshot exists"
	case inSnapshot && !carries:
		return "non-migratable snapshot exists"
	case strings.HasPrefix(base, "base-") && m.hasClones(base):
		return "referenced by linked clone(s)"
	}
	if parts := volumeName.FindStringSubmatch(strings.SplitN(name, ".", 2)[0]); parts != nil && parts[3] != fmt.Sprint(m.id) {
		return fmt.Sprintf("owned by other VM (owner = VM %s)", parts[3])
	}
	return ""
}

// hasClones reports whether a disk of any guest is based on an image.
func (a *actor) hasClones(base string) bool {
	nodes, err := a.view.ReadDir("/etc/pve/nodes")
	if err != nil {
		return false
	}
	for _, n := range nodes {
		for _, k := range []*kind{vm, ct} {
			for _, id := range a.ids(k, n.Name) {
				content, err := a.view.ReadFile(configPath(k, n.Name, id))
				if err != nil {
					continue
				}
				for _, d := range k.drivesOf(ParseConfig(string(content)).Values) {
					if strings.Contains(d.file, base+"/") || strings.Contains(d.file, base+".") && strings.Count(d.file, "/") > 1 {
						return true
					}
				}
			}
		}
	}
	return false
}

// named gives the volumes their names on the target.
func (m *migration) named(list []volume) []volume {
	all := m.storages()
	taken := map[string]bool{}
	for i, v := range list {
		sid, name, _ := strings.Cut(v.id, ":")
		to := all[m.destination(sid)]
		switch {
		case to == nil:
			list[i].to = v.id
		case to.id == sid || to.files() == all[sid].files():
			list[i].to = to.id + ":" + name
		default:
			list[i].to = to.newVolume(m.k, m.id, "", taken)
		}
		sid, name, _ = strings.Cut(list[i].to, ":")
		taken[sid+":"+baseName(name)] = true
	}
	return list
}

// scan finds the volumes, logs them, and fails if one cannot be copied.
func (m *migration) scan() error {
	volumes, problems := m.findVolumes(func(v, from string) {
		if m.k == ct {
			m.log("found local volume '%s' (%s)", v, from)
			return
		}
		m.log("found local disk '%s' (%s)", v, from)
	})
	for _, p := range problems {
		m.log("%s", p)
	}
	if len(problems) > 0 {
		return fmt.Errorf("Problem found while scanning volumes - can't migrate %s - check log", m.k.noun) //nolint:staticcheck // Proxmox's words
	}
	m.volumes = volumes
	return nil
}

// speed is how many bytes a second go over the network.
func (m *migration) speed(natural int64) int64 {
	if m.limit > 0 {
		return min(m.limit, natural)
	}
	return natural
}

// errTargetLost is the end of a copy whose target has gone.
var errTargetLost = errors.New("aborting")

// copyOffline copies the volumes that are not mirrored.
func (m *migration) copyOffline(ctx context.Context) error {
	first := true
	for _, v := range m.volumes {
		if v.live {
			continue
		}
		if first {
			m.log("copying local disk images")
			first = false
		}
		if err := m.transfer(ctx, "migrate:copying", m.amount(v), m.speed(m.w.opt.DiskSpeed), func(int64) {}); err != nil {
			if errors.Is(err, errTargetLost) {
				err = fmt.Errorf("storage migration for '%s' to storage '%s' failed - command 'set -o pipefail && pvesm export …' failed: exit code 255", v.id, m.destination(strings.SplitN(v.id, ":", 2)[0]))
			}
			return err
		}
		m.log("successfully imported '%s'", v.to)
		m.log("volume '%s' is '%s' on the target", v.id, v.to)
	}
	return nil
}

// amount is how much of a volume is sent.
func (m *migration) amount(v volume) int64 {
	if v.synced {
		return v.size / 100
	}
	return v.size
}

// mirror copies the attached disks of a running machine.
func (m *migration) mirror(ctx context.Context) error {
	any := false
	for _, v := range m.volumes {
		if !v.live {
			continue
		}
		if !any {
			m.log("starting storage migration")
			any = true
		}
		m.log("%s: start migration to nbd:unix:/run/qemu-server/%d_nbd.migrate:exportname=drive-%s", v.drive, m.id, v.drive)
		m.log("drive mirror is starting for drive-%s", v.drive)
		begun, size := m.m.Clock().Elapsed(), m.amount(v)
		err := m.transfer(ctx, "migrate:copying", size, m.speed(m.w.opt.DiskSpeed), func(done int64) {
			m.log("mirror-%s: transferred %s of %s (%.1f%%) in %s", v.drive, human(done), human(size), 100*float64(done)/float64(max(size, 1)), seconds(m.m.Clock().Elapsed()-begun))
		})
		if err != nil {
			return fmt.Errorf("block job (mirror) error: drive-%s: %w", v.drive, err)
		}
		m.log("mirror-%s: transferred %s of %s (100.00%%) in %s, ready", v.drive, human(size), human(size), seconds(m.m.Clock().Elapsed()-begun))
	}
	if any {
		m.log("all 'mirror' jobs are ready")
		m.log("switching mirror jobs to actively synced mode")
	}
	return nil
}

// transfer lets the time of a copy pass, in steps, and watches that the target stays. The phase is reached in its middle.
func (m *migration) transfer(ctx context.Context, phase string, size, speed int64, progress func(done int64)) error {
	boot := m.dest.m.BootID()
	total := time.Duration(float64(size) / float64(speed) * float64(time.Second))
	step := max(total/20, time.Second)
	reached := false
	for passed := time.Duration(0); passed < total || !reached; passed += step {
		if !reached && passed+step >= total/2 {
			reached = true
			if err := m.phase(ctx, phase); err != nil {
				return err
			}
		}
		if err := m.m.Sleep(ctx, min(step, max(total-passed, 0))); err != nil {
			return err
		}
		if !m.reachable(boot) {
			return errTargetLost
		}
		if passed+step < total {
			progress(int64(float64(size) * float64(passed+step) / float64(total)))
		}
	}
	return nil
}

// phase is a point at which faults strike: those of every migration, and those of this guest's.
func (m *migration) phase(ctx context.Context, name string) error {
	if err := m.node.Phase(ctx, name, 0); err != nil {
		return err
	}
	return m.node.Phase(ctx, fmt.Sprintf("%s:%d", name, m.id), 0)
}

func seconds(d time.Duration) string {
	switch s := int(d.Seconds()); {
	case s >= 3600:
		return fmt.Sprintf("%dh %dm %ds", s/3600, s/60%60, s%60)
	case s >= 60:
		return fmt.Sprintf("%dm %ds", s/60, s%60)
	default:
		return fmt.Sprintf("%ds", s)
	}
}

// human is a size as migrations print it.
func human(n int64) string {
	value, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
