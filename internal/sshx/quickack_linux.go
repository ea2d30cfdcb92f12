package sshx

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// quickACK asks the kernel to acknowledge at once what has been received. The kernel forgets the wish soon, so it is
// repeated after each read.
func quickACK(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		// Only speed depends on it.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	})
}
