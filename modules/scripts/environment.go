package scripts

import (
	"context"
	"errors"
	"fmt"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lua"
	"github.com/zclconf/go-cty/cty"
)

// environment is what a script of a task may reach: every host of the site and the cluster, to look only.
func environment(t module.Target, secrets map[string]secret.String) lua.Environment {
	connect := func(ctx context.Context, host string) (transport.Conn, error) {
		conn, err := t.Conn(ctx, host)
		if err != nil {
			return nil, err
		}
		return transport.ReadOnly(conn), nil
	}
	env := lua.Environment{
		Sleep: t.Sleep,
		Secret: func(_ context.Context, name string) (secret.String, error) {
			if value, ok := secrets[name]; ok {
				return value, nil
			}
			return secret.String{}, fmt.Errorf("the task gives the script no secret %q: write secrets = { %s = secret.%s }", name, name, name)
		},
	}
	for _, h := range t.Site().Hosts {
		env.Hosts = append(env.Hosts, host(h, connect))
	}
	if c := t.Cluster(); c != nil {
		env.Cluster = &cluster{wanted: c, site: t.Site(), connect: connect}
	}
	return env
}

func host(h inventory.Host, connect func(ctx context.Context, host string) (transport.Conn, error)) lua.Host {
	info := lua.HostInfo{Name: h.Name, Address: h.Address, Cluster: h.Cluster, Groups: h.Groups, Vars: map[string]lua.Value{}}
	for name, v := range h.Vars {
		info.Vars[name] = value(v)
	}
	if tags, ok := info.Vars["tags"].([]lua.Value); ok {
		for _, tag := range tags {
			if text, ok := tag.(string); ok {
				info.Tags = append(info.Tags, text)
			}
		}
	}
	return &lua.Remote{
		Info:    info,
		Connect: func(ctx context.Context) (transport.Conn, error) { return connect(ctx, h.Name) },
		ReadFacts: func(ctx context.Context, conn transport.Conn) (map[string]lua.Value, error) {
			facts, err := pve.Facts(ctx, conn)
			if err != nil {
				return nil, err
			}
			if facts == cty.NilVal {
				return nil, errors.New(h.Name + ": no facts")
			}
			return named(facts), nil
		},
	}
}
