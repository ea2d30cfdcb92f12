package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// addGuests puts the guests into the lab over its control socket, as `pxrun lab guest add` does: the same number on each
// node, some of them containers, most of them running.
func (l *bigLab) addGuests(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", l.Control)
	if err != nil {
		return err
	}
	defer conn.Close()
	ask, answers := json.NewEncoder(conn), json.NewDecoder(conn)
	for i := range statusGuests {
		guest := map[string]any{
			"id": 100 + i, "name": fmt.Sprintf("guest%d", i), "memory_mib": 256, "running": i%5 != 0,
			"disks": []map[string]any{{"storage": "vm", "size_gib": 8}},
		}
		if i%4 == 0 {
			guest["type"] = "lxc"
		}
		if err := ask.Encode(map[string]any{"op": "guest-add", "node": fmt.Sprintf("pve%d", 1+i%statusNodes), "guest": guest}); err != nil {
			return err
		}
		var answer struct{ Error string }
		if err := answers.Decode(&answer); err != nil {
			return err
		}
		if answer.Error != "" {
			return errors.New(answer.Error)
		}
	}
	return nil
}

// farLab is the lab as it is reached through a relay.
type farLab struct {
	relay *relay
	state string // a state folder in which the lab is written down so
}

// away puts a relay before every machine of the lab.
func (l *bigLab) away(ctx context.Context, listen string, rtt time.Duration, state string) (*farLab, error) {
	f := &farLab{state: state, relay: &relay{rtt: rtt}}
	ctx, f.relay.cancel = context.WithCancel(ctx)
	moved := map[string]string{}
	reached := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(l.Listen)) {
		server := l.Listen[name]
		if moved[server] == "" {
			at, err := f.relay.listen(ctx, net.JoinHostPort(listen, "0"), server)
			if err != nil {
				f.relay.close()
				return nil, err
			}
			moved[server] = at
		}
		reached[name] = moved[server]
	}
	if err := l.write(state, reached); err != nil {
		f.relay.close()
		return nil, err
	}
	return f, nil
}

// write stores the lab in another state folder with other addresses.
func (l *bigLab) write(state string, reached map[string]string) error {
	text := maps.Clone(l.text)
	var err error
	if text["listen"], err = json.Marshal(reached); err != nil {
		return err
	}
	data, err := json.Marshal(text)
	if err != nil {
		return err
	}
	dir := filepath.Join(state, "lab", filepath.Base(filepath.Dir(l.file)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, filepath.Base(l.file)), data, 0o600)
}

// cpuOf is the CPU time that another process has used, in user and system mode; 0 where the system does not tell.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The program's name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	return time.Duration(user+system) * tick
}
