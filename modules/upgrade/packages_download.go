package upgrade

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/packages"
	"github.com/pxrun/pxrun/modules/internal/apt"
)

//go:embed packages_download.md
var downloadDoc string

type downloadArgs struct {
	MaxAge      time.Duration `hcl:"max_age,optional" default:"1h" min:"1m" doc:"How old the package lists may be before they are fetched anew. Lists from before the last change of the repositories always are."`
	MinFreeRoot int           `hcl:"min_free_root,optional" default:"2048" min:"0" doc:"How many MiB have to stay free at / beside what is downloaded."`
}

type downloadOut struct {
	Pending  map[string]string `hcl:"pending" doc:"The packages that an upgrade would install, with their new versions."`
	Download int               `hcl:"download" doc:"How many MiB would still have to be fetched for it."`
}

func packagesDownload() module.Module {
	return module.Define(module.Spec{
		Name: "packages_download", Summary: "Fetch the package lists and the packages of an upgrade, and install nothing", Doc: downloadDoc,
		Serves: true,
	}, module.Funcs[downloadArgs, downloadOut]{
		Probes: func(t module.Target, _ downloadArgs) []module.Probe { return packageProbes(t) },
		Plan:   planDownload,
		Read: func(ctx context.Context, t module.Target, _ downloadArgs) (downloadOut, error) {
			out := downloadOut{Pending: map[string]string{}}
			s, err := readPackages(ctx, t)
			if err != nil {
				return out, err
			}
			for _, c := range s.Upgrade.Installs {
				out.Pending[c.Name] = c.To
			}
			out.Download = int((s.Download() + mib - 1) / mib)
			return out, nil
		},
	})
}

func (a downloadArgs) limits() packages.Limits {
	return packages.Limits{FreeRoot: int64(a.MinFreeRoot) * mib}
}

func planDownload(ctx context.Context, t module.Target, args downloadArgs) ([]module.Change, error) {
	host := t.Host().Name
	s, err := readPackages(ctx, t)
	if err != nil {
		return nil, err
	}
	const gate = "download packages"
	if !s.Interrupted && plannedBy(t, "repository") == "" {
		if rs := refused(host, gate, s.Objections(args.limits()).Only("sources")); len(rs) > 0 {
			return nil, rs
		}
	}
	c := module.Change{ID: host + "/download", Host: host, Action: module.Update, Apply: func(ctx context.Context, t module.Target) error {
		return args.download(ctx, t, gate)
	}}
	switch {
	case plannedBy(t, "repository") != "":
		c.Summary, c.Predicted = "fetch the package lists, and download what is new", "the repositories will be others by then"
	case s.ListAge > args.MaxAge:
		c.Summary, c.Predicted = "fetch the package lists, and download what is new", "the package lists are "+old(s.ListAge)+": what is new is known when they are fetched"
		if open := s.Unsubscribed(); len(open) > 0 {
			t.Warn(host, fmt.Sprintf("%s is enabled and there is no subscription key: it will answer 401; choose another with the module repository", open[0]))
		}
	case len(s.Missing) > 0 && !s.Interrupted:
		if rs := refused(host, gate, s.Objections(args.limits()).Only("space")); len(rs) > 0 {
			return nil, rs
		}
		c.Summary = fmt.Sprintf("download %d packages, %s", len(s.Missing), packages.Bytes(s.Download()))
	default:
		if s.Unknown != "" && !s.Interrupted && len(s.Unfinished) == 0 {
			return nil, asError(refused(host, gate, s.Objections(args.limits()).Only("dpkg")))
		}
		return nil, nil
	}
	c.Before, c.After = versions(s.Upgrade)
	return []module.Change{c}, nil
}

// download fetches the lists when they are old, and then what an upgrade needs. Nothing is installed.
func (a downloadArgs) download(ctx context.Context, t module.Target, gate string) error {
	host := t.Host().Name
	s, err := readPackages(ctx, t)
	if err != nil {
		return err
	}
	if s.ListAge > a.MaxAge {
		if err := refreshLists(ctx, t, host, gate); err != nil {
			return err
		}
		if s, err = readPackages(ctx, t); err != nil {
			return err
		}
	}
	if s.Interrupted {
		t.Warn(host, "dpkg was interrupted, and apt fetches nothing until that is mended; the module upgrade does so")
		return nil
	}
	if rs := refused(host, gate, s.Objections(a.limits()).Only("sources", "dpkg", "space")); len(rs) > 0 {
		return rs
	}
	if len(s.Missing) == 0 {
		return nil
	}
	t.Log(host, fmt.Sprintf("%d packages to download, %s", len(s.Missing), packages.Bytes(s.Download())))
	_, err = apt.Job(ctx, t, host, "packages-download", apt.Get("-y", "-q", "-o", lock, "--download-only", "dist-upgrade"))
	return err
}
