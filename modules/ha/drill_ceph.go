package ha

import (
	"context"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/modules/internal/gates"
)

// cephBears refuses to cut off a node without which placement groups would stop or the monitors lose their quorum. HEALTH_OK says
// nothing about that (reference §8.6).
func cephBears(ctx context.Context, t module.Target, watcher, node string) *module.Refusal {
	v := gates.CephBears(ctx, t, watcher, node)
	if v.OK {
		return nil
	}
	return &module.Refusal{Host: node, Gate: "cut " + node + " off", Saw: v.Saw, Want: v.Want, Look: v.Look, Override: v.Override}
}
