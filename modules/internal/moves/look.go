package moves

import (
	"context"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
)

// ReadFrom reads the cluster's guests from a node. One that cannot tell all of it is of no use.
func ReadFrom(ctx context.Context, t module.Target, host string) (*guest.Site, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	site, err := guest.Read(ctx, host, conn)
	if err != nil {
		return nil, err
	}
	if !site.Quorate {
		return nil, fmt.Errorf("%s has no quorum: what it remembers of the guests is old", host)
	}
	if why := site.Missing("configs", "members", "storages", "ha guests"); why != "" {
		return nil, fmt.Errorf("%s: %s", host, why)
	}
	return site, nil
}

// Again reads the cluster from the acting node, and some nodes themselves.
func Again(ctx context.Context, t module.Target, actor string, nodes ...string) (*guest.Site, error) {
	site, err := ReadFrom(ctx, t, actor)
	if err != nil {
		return nil, err
	}
	AskNodes(ctx, t, site, nodes)
	return site, nil
}

// AskNodes lets nodes say what runs on them and what they can run. Nodes that are away are not asked: what stands in their way is
// told by their being away.
func AskNodes(ctx context.Context, t module.Target, site *guest.Site, nodes []string) {
	var online []string
	for _, name := range nodes {
		_, inventoried := t.Site().Host(name)
		if inventoried && site.Online(name) && !slices.Contains(online, name) {
			online = append(online, name)
		}
	}
	site.ReadNodes(ctx, online, t.Conn)
}
