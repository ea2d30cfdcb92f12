package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// moveDisk is qm move-disk and pct move-volume.
func moveDisk(ctx context.Context, c *call) int {
	conf, err := c.load(c.k, c.id)
	if err != nil {
		return c.fail(err)
	}
	key, to := c.args[0], c.o.Values["storage"]
	d, err := c.movable(conf, key, to)
	if err != nil {
		return c.fail(err)
	}
	name := "qmmove"
	if c.k == ct {
		name = "move_volume"
	}
	return c.task(ctx, name, func(ctx context.Context, say func(string)) error {
		if err := c.relocate(ctx, d, to, say); err != nil {
			return fmt.Errorf("storage migration failed: %w", err)
		}
		return nil
	})
}

// movable finds the drive to move, or says why it cannot be.
func (c *call) movable(conf *Config, key, to string) (drive, error) {
	if err := locked(c.k, conf); err != nil {
		return drive{}, err
	}
	all := c.storages()
	var d drive
	for _, one := range c.k.drivesOf(conf.Values) {
		if one.key == key {
			d = one
		}
	}
	what := "disk"
	if c.k == ct {
		what = "volume"
	}
	sid, name, ok := d.volume()
	switch {
	case d.key == "" || d.unused:
		return d, fmt.Errorf("%s '%s' does not exist", what, key)
	case d.cdrom:
		return d, errors.New("you can't move a cdrom")
	case !ok:
		return d, fmt.Errorf("drive '%s' has no associated volume", key)
	case to == "":
		return d, errors.New("storage: property is missing and it is not optional")
	}
	if err := checkStorage(all, to, c.name); err != nil {
		return d, err
	}
	format := c.o.Values["format"]
	switch {
	case !slices.Contains(all[to].content, c.k.diskType):
		return d, fmt.Errorf("storage '%s' does not support content-type '%s'", to, c.k.diskType)
	case sid == to && (format == "" || format == formatOf(name)):
		return d, errors.New("you can't move to the same storage with same format")
	case c.k == ct && c.runs(c.id):
		return d, errors.New("cannot move volumes of a running container")
	}
	if c.o.Is("delete") && conf.inSnapshot(c.k, d.file) {
		return d, errors.New("you can't move a disk with snapshots and delete the source")
	}
	return d, nil
}

// inSnapshot reports whether a snapshot needs a volume.
func (c *Config) inSnapshot(k *kind, file string) bool {
	for _, values := range c.Snapshots {
		if slices.ContainsFunc(k.drivesOf(values), func(d drive) bool { return d.file == file }) {
			return true
		}
	}
	return false
}

// relocate copies a volume within the node and puts the copy into the config; the old one stays as unused unless it is deleted.
func (c *call) relocate(ctx context.Context, d drive, to string, say func(string)) error {
	if c.k == ct {
		if err := c.change(ctx, c.k, c.id, func(conf *Config) error { conf.Values["lock"] = "disk"; return nil }); err != nil {
			return err
		}
		defer func() {
			if ctx.Err() != nil {
				return // a killed one leaves it
			}
			_ = c.outliving().change(context.WithoutCancel(ctx), c.k, c.id, func(conf *Config) error { delete(conf.Values, "lock"); return nil })
		}()
	}
	say(fmt.Sprintf("create full clone of drive %s (%s)", d.key, d.file))
	at := c.storages()[to]
	c.w.mu.Lock()
	usable := c.w.usable
	c.w.mu.Unlock()
	if usable != nil {
		if err := usable(ctx, c.node, to); err != nil {
			return err
		}
	}
	live := c.runs(c.id)
	if live {
		say("drive mirror is starting for drive-" + d.key)
	}
	if err := c.copyWithin(ctx, d, say); err != nil {
		if live {
			say(fmt.Sprintf("drive-%s: Cancelling block job", d.key))
		}
		return err
	}
	return c.change(ctx, c.k, c.id, func(conf *Config) error {
		volume := at.newVolume(c.k, c.id, c.o.Values["format"], conf.names(c.k))
		conf.Values[d.key] = d.with(volume)
		if !c.o.Is("delete") || conf.inSnapshot(c.k, d.file) {
			conf.Values[conf.freeKey("unused")] = d.file
		}
		return nil
	})
}

// copyWithin lets the time of a copy pass.
func (c *call) copyWithin(ctx context.Context, d drive, say func(string)) error {
	speed := c.w.opt.DiskSpeed
	if limit := int64(c.o.Int("bwlimit")) << 10; limit > 0 {
		speed = min(speed, limit)
	}
	size := d.size()
	total := time.Duration(float64(size) / float64(speed) * float64(time.Second))
	step := max(total/10, time.Second)
	for passed, reached := time.Duration(0), false; passed < total || !reached; passed += step {
		say(fmt.Sprintf("drive-%s: transferred %s of %s (%.2f%%) in %s", d.key, human(int64(float64(size)*passed.Seconds()/max(total.Seconds(), 1))), human(size), 100*passed.Seconds()/max(total.Seconds(), 1), seconds(passed)))
		if !reached && passed+step >= total/2 {
			reached = true
			if err := c.node.Phase(ctx, "move-disk:copying", 0); err != nil {
				return err
			}
		}
		if err := c.m.Sleep(ctx, min(step, max(total-passed, 0))); err != nil {
			return err
		}
	}
	say(fmt.Sprintf("drive-%s: transferred %s of %s (100.00%%) in %s, ready", d.key, human(size), human(size), seconds(total)))
	if c.runs(c.id) {
		say("all 'mirror' jobs are ready")
		say(fmt.Sprintf("drive-%s: Completing block job...", d.key))
		say(fmt.Sprintf("drive-%s: Completed successfully.", d.key))
	}
	return nil
}

// Volumes lists the volume ids that configs name on a storage: those of a node's guests, or of all for a shared storage.
func (w *World) Volumes(node, sid string) []string {
	h := w.Host(node)
	if h == nil {
		return nil
	}
	a := &actor{Host: h, view: h.m.FS.View}
	at := a.storages()[sid]
	nodes := []string{node}
	if at != nil && at.shared {
		nodes = h.node.Members()
	}
	var out []string
	for _, n := range nodes {
		for _, k := range []*kind{vm, ct} {
			for _, id := range a.ids(k, n) {
				text, err := a.view.ReadFile(configPath(k, n, id))
				if err != nil {
					continue
				}
				for _, d := range k.drivesOf(ParseConfig(string(text)).Values) {
					if strings.HasPrefix(d.file, sid+":") && !d.cdrom {
						out = append(out, fmt.Sprintf("%s %d", d.file, d.size()))
					}
				}
			}
		}
	}
	slices.Sort(out)
	return out
}
