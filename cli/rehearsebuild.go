package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/pxrun/pxrun/internal/snapshot"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/runbooks"
)

// makeLab makes the lab of a site and starts it: fresh nodes, or a copy of the cluster in a snapshot.
func makeLab(ctx context.Context, doc *runbooks.Document, o labUpOptions) (*lab.Lab, error) {
	if o.copyOf != "" {
		s, err := openSnapshot(o.copyOf)
		if err != nil {
			return nil, err
		}
		if err := sameNodes(s, doc); err != nil {
			return nil, err
		}
		c, err := copyOf(s, doc.Site, o.speed, o.seed)
		if err != nil {
			return nil, err
		}
		c.update(o.updates)
		return c.build(ctx)
	}
	spec := labSpec(doc.Site, o.release, o.speed, o.seed)
	addBackends(&spec, doc)
	for i := range spec.Hosts {
		spec.Hosts[i].Updates = o.updates
	}
	made, err := lab.New(spec)
	if err != nil {
		return nil, &exitError{exitInvalid, fmt.Errorf("the inventory cannot be simulated: %w", err)}
	}
	if err := made.Start(ctx); err != nil {
		made.Close()
		return nil, err
	}
	return made, nil
}

// openSnapshot reads a file of pxrun snapshot.
func openSnapshot(file string) (*snapshot.Snapshot, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, invalid("%w", err)
	}
	s, err := snapshot.Parse(text)
	if err != nil {
		return nil, invalid("%s: %w", file, err)
	}
	return s, nil
}

// update gives the repositories more than the snapshot knows of.
func (c *copied) update(words []string) {
	for i := range c.spec.Hosts {
		if h := &c.spec.Hosts[i]; h.PVE != "" {
			h.Updates = append(h.Updates, words...)
		}
	}
}

// build makes the lab and brings it into the state of the cluster.
func (c *copied) build(ctx context.Context) (*lab.Lab, error) {
	made, err := lab.New(c.spec)
	if err != nil {
		return nil, &exitError{exitInvalid, fmt.Errorf("the cluster cannot be simulated: %w", err)}
	}
	if err := made.Start(ctx); err != nil {
		made.Close()
		return nil, err
	}
	if err := made.Form(ctx, c.formed); err != nil {
		made.Close()
		return nil, fmt.Errorf("the cluster cannot be simulated: %w", err)
	}
	return made, nil
}

// sameNodes refuses a site whose cluster is not the one of the snapshot.
func sameNodes(s *snapshot.Snapshot, doc *runbooks.Document) error {
	for _, c := range doc.Site.Clusters {
		for _, name := range c.Nodes {
			if _, ok := s.Node(name); !ok {
				return invalid("node %q of the site is not in the snapshot of cluster %q: the files and the snapshot are of different clusters, or the node has not joined yet.\nTake the snapshot again: pxrun snapshot", name, s.Cluster)
			}
		}
	}
	return nil
}
