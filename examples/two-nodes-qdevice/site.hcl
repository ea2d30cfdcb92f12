# Two nodes that share their guests' disks over NFS, and an arbiter that decides who goes on when they lose each other.
#
#   pxrun plan check -i examples/two-nodes-qdevice --lab
#   pxrun apply form -i examples/two-nodes-qdevice --lab

cluster "pair" {
  node "left" {
    address = "192.0.2.21"
    links   = ["10.0.3.1"]
  }
  node "right" {
    address = "192.0.2.22"
    links   = ["10.0.3.2"]
  }
}

# In another room: it must not fail together with the nodes.
host "arbiter" { address = "192.0.2.50" }

host "nas" { address = "192.0.2.60" }

runbook "check" {
  description = "Are the nodes fit for a cluster?"
  cluster     = cluster.pair

  task "preflight" "ready" {
    min_links = 1
  }

  task "network_check" "links" {
    duration = "5s"
  }
}

runbook "form" {
  description = "Make them one."
  cluster     = cluster.pair

  task "preflight" "ready" {}

  # A fresh installation reads the enterprise repositories, which want a subscription.
  task "repository" "packages" {
    hosts        = cluster.pair.nodes
    pve          = "no-subscription"
    ceph         = "no-subscription"
    ceph_release = "squid"
  }

  task "time_sync" "clocks" {
    hosts = cluster.pair.nodes
  }

  task "cluster_create" "form" {
    name = "pair"
  }

  task "node_join" "members" {
    nodes = cluster.pair.nodes
  }

  # With two votes the loss of one node stops the other. The arbiter's is the third.
  task "qdevice" "third_vote" {
    arbiter = host.arbiter
  }

  task "storage" "shared" {
    type    = "nfs"
    server  = host.nas.address
    export  = "/export/guests"
    content = ["images", "rootdir"]
    nodes   = cluster.pair.nodes
  }

  task "command" "arbiter" {
    hosts = host.arbiter
    run   = "logger 'the pair has formed'"
    when  = task.members.changed
  }
}

runbook "survivor" {
  description = "The right node is lost for good: take it out, so that the left one goes on alone."
  cluster     = cluster.pair

  task "node_remove" "lost" {
    node    = "right"
    confirm = "right"
    clean   = true
  }
}
