package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// prepareMachine are the checks inside the task (reference §6.2), in their order.
func (m *migration) prepareMachine(ctx context.Context) error {
	if m.running && m.conf.is("template") {
		return errors.New("you can't start a vm if it's a template")
	}
	if m.running && properties(m.conf.Values["vga"])["clipboard"] == "vnc" && older(m.qemuVersion(), "10.1") {
		return errors.New("VMs with 'clipboard' set to 'vnc' are not live migratable with QEMU/machine versions older than 10.1!")
	}
	if slices.ContainsFunc(m.replication(m.id), func(j job) bool { return j.removed }) {
		return errors.New("refusing to migrate replicated VM whose replication job is marked for removal")
	}
	local, mapped := localDevices(m.conf)
	if len(local) > 0 && (m.running || !m.force) {
		return fmt.Errorf("can't migrate VM which uses local devices: %s", strings.Join(local, ", "))
	}
	if lacking := m.unmapped(mapped, m.target); len(lacking) > 0 {
		return fmt.Errorf("can't migrate to '%s': missing mapped devices %s", m.target, strings.Join(lacking, ", "))
	}
	if m.running && len(mapped) > 0 {
		return fmt.Errorf("can't live migrate running VM which uses following mapped devices: %s", strings.Join(mapped, ", "))
	}
	return m.connect(ctx)
}

// unmapped are the devices whose mapping has no entry for a node.
func (a *actor) unmapped(keys []string, node string) []string {
	var out []string
	for _, key := range keys {
		family := strings.TrimRight(key, "0123456789")
		file := map[string]string{"hostpci": "pci", "usb": "usb", "virtiofs": "directory"}[family]
		content, err := a.view.ReadFile("/etc/pve/mapping/" + file + ".cfg")
		if err != nil || !strings.Contains(string(content), "node="+node) {
			out = append(out, key)
		}
	}
	return out
}

// moveMachine moves a virtual machine.
func (m *migration) moveMachine(ctx context.Context) error {
	if err := m.prepareMachine(ctx); err != nil {
		return err
	}
	if err := m.phase(ctx, "migrate:start"); err != nil {
		return err
	}
	if m.running && m.node.Release().Major() >= 9 {
		m.log("conntrack state migration not supported or disabled, active connections might get dropped")
	}
	if m.network != "" {
		m.log("use dedicated network address for sending migration traffic (%s)", m.ip)
	}
	m.log("starting migration of VM %d to node '%s' (%s)", m.id, m.target, m.ip)
	if err := m.lock(ctx, true); err != nil {
		return err
	}
	err := m.phase(ctx, "migrate:locked")
	if err == nil {
		err = m.scan()
	}
	if err == nil {
		err = m.copyOffline(ctx)
	}
	if err == nil && !m.running {
		err = m.reassign(ctx)
	}
	if killed(ctx, err) {
		return pvetool.ErrKilled
	}
	if err != nil {
		m.logError(err)
		m.log("aborting phase 1 - cleanup resources")
		m.cleanup(ctx)
		return err
	}
	if m.running {
		if err := m.moveRunning(ctx); err != nil {
			return err
		}
		return nil
	}
	return m.finishOffline(ctx)
}

// finishOffline is what follows once an offline machine's config is on the target.
func (m *migration) finishOffline(ctx context.Context) error {
	err := m.phase(ctx, "migrate:moved")
	if err == nil {
		err = m.unlockOnTarget(ctx)
	}
	if killed(ctx, err) {
		return pvetool.ErrKilled
	}
	if err != nil {
		m.logError(err)
		m.failed = true
	}
	return nil
}

// moveRunning is the live part: a machine that waits on the target, its memory, and the change over.
func (m *migration) moveRunning(ctx context.Context) error {
	source := m.instanceOf(m.id)
	err := m.startIncoming(ctx, source)
	if err == nil {
		err = m.mirror(ctx)
	}
	if err == nil {
		err = m.sendMemory(ctx)
	}
	if err == nil && m.instanceOf(m.id) != source {
		err = errors.New("migration status error: failed")
	}
	if killed(ctx, err) {
		if !m.m.Up() {
			m.dropIncoming() // QEMU there notices that the stream has ended
		}
		return pvetool.ErrKilled
	}
	if err != nil {
		m.failed = true
		m.logError(fmt.Errorf("online migrate failure - %w", err))
		m.log("aborting phase 2 - cleanup resources")
		m.log("migrate_cancel")
		m.stopIncoming(ctx)
		m.cleanup(ctx)
		return nil
	}
	m.log("migration status: completed")
	return m.changeOver(ctx, source)
}

// startIncoming starts the machine that waits on the target, over SSH as the real one does.
func (m *migration) startIncoming(ctx context.Context, source *instance) error {
	if source == nil {
		return errors.New("VM is not running")
	}
	m.log("starting VM %d on remote node '%s'", m.id, m.target)
	argv := []string{"qm", "start", fmt.Sprint(m.id), "--skiplock", "1", "--migratedfrom", m.name, "--stateuri", "unix", "--machine", source.qemu, "--forcecpu", "'" + source.model + "'"}
	if len(m.storageMap) > 0 {
		argv = append(argv, "--targetstorage", "'"+m.storageMap.String()+"'")
	}
	code := m.ssh(ctx, argv...)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if code != 0 {
		return fmt.Errorf("remote command failed with exit code %d", code)
	}
	for _, v := range m.volumes {
		if v.live {
			m.log("volume '%s' is '%s' on the target", v.id, v.to)
		}
	}
	m.log("start remote tunnel")
	if err := m.m.Sleep(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	m.log("ssh tunnel ver 1")
	return m.phase(ctx, "migrate:connected")
}

// sendMemory transfers the machine's memory. It never ends while the machine is dirty.
func (m *migration) sendMemory(ctx context.Context) error {
	uri := fmt.Sprintf("unix:/run/qemu-server/%d.migrate", m.id)
	if m.insecure {
		uri = fmt.Sprintf("tcp:%s:60000", m.ip)
	}
	memory := m.k.memoryOf(m.conf)
	cache := int64(16 << 20)
	for cache < memory/8 {
		cache *= 2
	}
	for _, line := range []string{
		"starting online/live migration on " + uri, "set migration capabilities", "migration downtime limit: 100 ms",
		"migration cachesize: " + human(cache), "set migration parameters", "start migrate command to " + uri,
	} {
		m.log("%s", line)
	}
	speed := m.speed(m.w.opt.RAMSpeed)
	begun := m.m.Clock().Elapsed()
	progress := func(done int64) {
		m.log("migration active, transferred %s of %s VM-state, %s/s", human(done), human(memory), human(speed))
	}
	if err := m.transfer(ctx, "migrate:transfer", memory, speed, progress); err != nil {
		return m.statusError(err)
	}
	if err := m.converge(ctx, memory, speed, progress); err != nil {
		return m.statusError(err)
	}
	took := max(m.m.Clock().Elapsed()-begun, time.Second)
	m.log("average migration speed: %s/s - downtime 54 ms", human(int64(float64(memory)/took.Seconds())))
	m.log("migration completed, transferred %s VM-state", human(memory))
	return nil
}

// statusError is how QEMU's own failure is told.
func (m *migration) statusError(err error) error {
	if errors.Is(err, errTargetLost) {
		m.log("migration status error: failed")
	}
	return err
}

// converge goes on as long as the machine writes faster than the network carries.
func (m *migration) converge(ctx context.Context, memory, speed int64, progress func(int64)) error {
	boot := m.dest.m.BootID()
	limit := 100
	for round := int64(1); m.w.isDirty(m.id); round++ {
		progress(memory + round*speed)
		if round%10 == 0 {
			limit = min(2*limit, 51200)
			m.log("auto-increased downtime to continue migration: %d ms", limit)
		}
		if err := m.m.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if !m.reachable(boot) {
			return errTargetLost
		}
	}
	return nil
}

func (w *World) isDirty(id int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dirty[id]
}

// incoming is the machine that waits on the target, or nil.
func (m *migration) incoming() *instance {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if i := m.dest.running[m.id]; i != nil && i.incoming {
		return i
	}
	return nil
}

// dropIncoming ends the machine on the target.
func (m *migration) dropIncoming() {
	if i := m.incoming(); i != nil {
		m.dest.leave(i)
	}
}

// stopIncoming asks the target to stop the machine that waits there.
func (m *migration) stopIncoming(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if m.incoming() == nil {
		return
	}
	if !m.reachable(m.dest.m.BootID()) || m.ssh(ctx, "qm", "stop", fmt.Sprint(m.id), "--skiplock", "1", "--migratedfrom", m.name) != 0 {
		m.dropIncoming() // without its stream it ends by itself
	}
}

// changeOver moves the config and lets the machine run on the target. From here on the guest is there, whatever fails.
func (m *migration) changeOver(ctx context.Context, source *instance) error {
	m.w.setPaused(source, true)
	if err := m.reassign(ctx); err != nil {
		m.logError(err)
		m.failed = true
		m.dropIncoming()
		return nil
	}
	err := m.phase(ctx, "migrate:moved")
	if killed(ctx, err) {
		m.leave(source)
		return pvetool.ErrKilled // it stays paused on the target
	}
	if err != nil {
		m.logError(err)
		m.failed = true
	}
	if !m.resume() {
		m.logError(fmt.Errorf("VM %d not running on the target", m.id))
		m.failed = true
	}
	if len(m.volumes) > 0 {
		m.log("stopping NBD storage migration server on target.")
		if properties(m.conf.Values["agent"])["fstrim_cloned_disks"] == "1" {
			m.log("issuing guest fstrim")
		}
	}
	m.leave(source)
	if err := m.unlockOnTarget(ctx); err != nil {
		if killed(ctx, err) {
			return pvetool.ErrKilled
		}
		m.logError(err)
		m.failed = true
	}
	return nil
}

// resume lets the machine on the target run, and reports whether it does.
func (m *migration) resume() bool {
	i := m.incoming()
	if i == nil || !m.reachable(m.dest.m.BootID()) {
		return false
	}
	m.w.mu.Lock()
	i.incoming = false
	m.w.mu.Unlock()
	return true
}

func (w *World) setPaused(i *instance, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i.paused = on
}
