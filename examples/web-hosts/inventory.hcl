# Plain Debian hosts, no cluster: files, packages, services and commands. A folder is read as one site.

ssh {
  user      = "root"
  host_keys = "strict"
}

host "web1" {
  address = "198.51.100.21"
  vars    = { role = "primary" }
}
host "web2" {
  address = "198.51.100.22"
  vars    = { role = "standby" }
}

group "web" {
  hosts = [host.web1, host.web2]
  vars  = { port = 8080 }
}
