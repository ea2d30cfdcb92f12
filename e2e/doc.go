// Package e2e holds the end-to-end tests: the built pxrun against Debian's own sshd, dash, sudo, dpkg, apt, systemd and
// corosync. Every host of a test is a network, mount, process and host-name namespace of its own, with a private copy
// (an overlay) of this machine's /usr, /etc and /var, and systemd as its first process. `make e2e` runs them; they need
// root and the packages of packages.txt, and leave nothing behind but an empty lock file in /run.
package e2e
