# Three fresh Proxmox VE nodes become the cluster "lab". Try it without hardware:
#
#   pxrun apply examples/three-nodes --lab

cluster "lab" {
  ssh {
    user      = "root"
    host_keys = "strict"
  }

  # links are the addresses of the corosync networks: link 0 first, and link 1 in case it fails.
  node "pve1" {
    address = "192.0.2.11"
    links   = ["10.0.1.1", "10.0.2.1"]
  }
  node "pve2" {
    address = "192.0.2.12"
    links   = ["10.0.1.2", "10.0.2.2"]
  }
  node "pve3" {
    address = "192.0.2.13"
    links   = ["10.0.1.3", "10.0.2.3"]
  }
}

runbook "site" {
  cluster = cluster.lab

  # Everything that forming a cluster needs, before anything is touched.
  task "preflight" "ready" {}

  task "cluster_create" "form" {
    name = "lab"
  }

  # One at a time, whatever the parallelism.
  task "node_join" "members" {
    nodes = cluster.lab.nodes
  }

  task "command" "announce" {
    run  = "logger '${self.name} is a member of ${cluster.lab.name}'"
    when = task.members.changed
  }
}
