//go:build !linux

package sshx

import "syscall"

// quickACK does nothing: only Linux lets a program choose.
func quickACK(syscall.RawConn) {}
