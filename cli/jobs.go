package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// foreignAge is how long a job of a run that this controller does not know must have been done: its own controller takes the result within seconds.
const foreignAge = time.Minute

// clearJobs removes what ended jobs have left on hosts, of the runs that wanted accepts, and tells of each. It returns how many there were.
func (a *app) clearJobs(ctx context.Context, net *network, hosts []string, wanted func(detach.Left) bool) (int, error) {
	var mu sync.Mutex
	var errs []error
	cleared := 0
	p := pool.New().WithMaxGoroutines(maxLooks)
	for _, host := range hosts {
		p.Go(func() {
			jobs, err := clearJobsOn(ctx, net, host, wanted)
			mu.Lock()
			defer mu.Unlock()
			cleared += len(jobs)
			if err != nil {
				errs = append(errs, err)
			}
			if a.global.json || a.global.quiet {
				return
			}
			for _, j := range jobs {
				_, _ = fmt.Fprintf(a.Out, "%s: cleared away the job %q of run %s, which had ended with exit %d\n", host, j.Name, j.Run, j.Exit)
			}
		})
	}
	p.Wait()
	return cleared, errors.Join(errs...)
}

// maxLooks bounds how many hosts are looked at at once.
const maxLooks = 64

func clearJobsOn(ctx context.Context, net *network, host string, wanted func(detach.Left) bool) ([]detach.Left, error) {
	conn, err := net.conn(ctx, host)
	if err != nil {
		return nil, err
	}
	list := transport.Command{Script: detach.ListCommand(""), Timeout: time.Minute}
	r, err := conn.Run(ctx, list)
	if err == nil {
		err = r.Err(list)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list the jobs: %w", host, err)
	}
	jobs := slices.DeleteFunc(detach.ParseList(string(r.Stdout)), func(j detach.Left) bool { return j.State != detach.Done || !wanted(j) })
	if len(jobs) == 0 {
		return nil, nil
	}
	units := make([]string, len(jobs))
	for i, j := range jobs {
		units[i] = j.Unit
	}
	gone, err := (&detach.Runner{}).Clear(ctx, conn, units...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", host, err)
	}
	return slices.DeleteFunc(jobs, func(j detach.Left) bool { return !slices.Contains(gone, j.Unit) }), nil
}

// abandoned tells jobs whose results nobody is going to take: those of runs that do not run any more, and of runs that are not known here.
func abandoned(runs []journal.Info) func(detach.Left) bool {
	return func(j detach.Left) bool {
		i := slices.IndexFunc(runs, func(r journal.Info) bool { return r.ID == j.Run })
		if i < 0 {
			return j.Age > foreignAge
		}
		return runs[i].State != journal.Running
	}
}

// clearOwnJobs removes, when a run that was cut off has been brought to its end, what its jobs left on its hosts. What goes wrong is only told:
// a restart of the node clears them away too.
func (s *session) clearOwnJobs(ctx context.Context, run string) {
	hosts := s.options.limit
	if len(hosts) == 0 && s.book.Cluster != nil {
		hosts = s.book.Cluster.Nodes
	}
	if _, err := s.app.clearJobs(ctx, s.net, hosts, func(j detach.Left) bool { return j.Run == run }); err != nil {
		s.app.note("files of ended jobs stay in /run/pxrun: " + err.Error())
	}
}
