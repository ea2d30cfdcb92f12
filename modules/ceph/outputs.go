package ceph

import (
	"context"

	"github.com/pxrun/pxrun/engine/module"
)

// cephOut is what every module of this family tells later tasks.
type cephOut struct {
	FSID   string   `hcl:"fsid" doc:"The id of the Ceph cluster; empty without one."`
	Health string   `hcl:"health" doc:"HEALTH_OK, HEALTH_WARN or HEALTH_ERR; empty while no monitor answers."`
	Checks []string `hcl:"checks" doc:"What Ceph complains of."`
	Clean  bool     `hcl:"clean" doc:"Whether all placement groups are active and clean."`
	Mons   []string `hcl:"mons" doc:"The monitors in the quorum."`
	OSDs   int      `hcl:"osds" doc:"The number of OSDs."`
	OSDsUp int      `hcl:"osds_up" doc:"How many of them are up."`
	Pools  []string `hcl:"pools" doc:"The names of the pools."`
	Flags  []string `hcl:"flags" doc:"The flags that are set on the whole cluster, such as noout."`
}

func outputs(ctx context.Context, t module.Target) (cephOut, error) {
	w, err := look(ctx, t)
	if err != nil {
		return cephOut{}, err
	}
	return w.out(), nil
}

func (w *world) out() cephOut {
	var out cephOut
	if w.Conf != nil {
		out.FSID = w.Conf.FSID
	}
	if !w.Answers {
		return out
	}
	s := w.Status
	out.Health, out.Checks, out.Clean, out.Mons = s.Health.Status, s.Complaints(), s.Clean() == "", s.QuorumNames
	out.OSDs, out.OSDsUp, out.Flags = s.OSDs.Total, s.OSDs.Up, w.Map.SetFlags()
	for _, p := range w.Map.Pools {
		out.Pools = append(out.Pools, p.Name)
	}
	return out
}
