# Five nodes on two sites, three and two, that go on when either site is lost: the guests of the lost site start on the other one, on disks that are there
# already. Try it without hardware:
#
#   pxrun apply examples/five-nodes-two-sites --lab
#
# Why there is a sixth, small node. Whoever goes on must have a majority, of votes in the cluster and of monitors in Ceph, and of five the site with three has it
# alone: without that site the two others stand still. A third site must tip the scales, and a QDevice there is not enough:
#
#   - Proxmox VE sets no QDevice up for an odd number of nodes. Forced to, it would give the arbiter four votes of nine, so that when the arbiter is away no node
#     may fail any more. The module qdevice refuses that.
#   - Ceph counts monitors, not votes, and a QDevice is none. The one that decides must run on a node of the cluster on the third site.
#
# So the third site has a small node, which carries that monitor and neither guests nor disks. Six is an even number: the arbiter may join in. Seven votes, four
# needed:
#
#   lost            left                              votes
#   site a          2 of b, the witness, the arbiter  4
#   site b          3 of a, the witness, the arbiter  5
#   the third site  3 of a, 2 of b                    5
#   the arbiter     all six nodes                     6
#
# Without the arbiter the loss of site a would leave three of six votes, and all would stand still.
#
# The witness speaks corosync with the others: that takes a round trip below 10 ms to the third site, better below 5. Where it is farther away, build 2 + 2 nodes
# and a QDevice, which bears far more, and replicate guests' disks in place of Ceph.

variable "ceph_network" {
  default     = "10.0.3.0/24"
  description = "Where clients and monitors talk, on all three sites."
}

variable "ceph_cluster_network" {
  default     = "10.0.4.0/24"
  description = "Where OSDs copy to each other, between the two sites with disks."
}

cluster "stretched" {
  ssh {
    user      = "root"
    host_keys = "strict"
  }

  # site is what the placement of guests goes by. Each site's links are on switches of their own.
  node "a1" {
    address = "192.0.2.61"
    links   = ["10.0.1.61", "10.0.2.61"]
    vars    = { site = "a", ceph = "10.0.3.61", ceph_cluster = "10.0.4.61" }
    osds = [
      { device = "/dev/disk/by-id/ata-ACME_SSD_A1A" },
      { device = "/dev/disk/by-id/ata-ACME_SSD_A1B" },
    ]
  }
  node "a2" {
    address = "192.0.2.62"
    links   = ["10.0.1.62", "10.0.2.62"]
    vars    = { site = "a", ceph = "10.0.3.62", ceph_cluster = "10.0.4.62" }
    osds = [
      { device = "/dev/disk/by-id/ata-ACME_SSD_A2A" },
      { device = "/dev/disk/by-id/ata-ACME_SSD_A2B" },
    ]
  }
  # The third node of site a computes and has no OSDs.
  node "a3" {
    address = "192.0.2.63"
    links   = ["10.0.1.63", "10.0.2.63"]
    vars    = { site = "a", ceph = "10.0.3.63", ceph_cluster = "10.0.4.63" }
  }
  node "b1" {
    address = "192.0.2.71"
    links   = ["10.0.1.71", "10.0.2.71"]
    vars    = { site = "b", ceph = "10.0.3.71", ceph_cluster = "10.0.4.71" }
    osds = [
      { device = "/dev/disk/by-id/ata-ACME_SSD_B1A" },
      { device = "/dev/disk/by-id/ata-ACME_SSD_B1B" },
    ]
  }
  node "b2" {
    address = "192.0.2.72"
    links   = ["10.0.1.72", "10.0.2.72"]
    vars    = { site = "b", ceph = "10.0.3.72", ceph_cluster = "10.0.4.72" }
    osds = [
      { device = "/dev/disk/by-id/ata-ACME_SSD_B2A" },
      { device = "/dev/disk/by-id/ata-ACME_SSD_B2B" },
    ]
  }
  node "witness" {
    address = "192.0.2.81"
    links   = ["10.0.1.81", "10.0.2.81"]
    vars    = { site = "c", ceph = "10.0.3.81" }
  }
}

# A small Debian host beside the witness, which belongs to no cluster.
host "arbiter" {
  address = "192.0.2.82"
}

locals {
  nodes = cluster.stretched.nodes

  # Priorities of guests that belong on a site: its own nodes first, then the other site's, and never the witness.
  prefer_a = { for n in local.nodes : n.name => n.vars.site == "a" ? 2 : 1 if n.vars.site != "c" }
  prefer_b = { for n in local.nodes : n.name => n.vars.site == "b" ? 2 : 1 if n.vars.site != "c" }
}

runbook "site" {
  cluster = cluster.stretched

  task "preflight" "ready" {}

  task "cluster_create" "form" {
    name = "stretched"
  }

  task "node_join" "members" {
    nodes = cluster.stretched.nodes
  }

  task "qdevice" "arbiter" {
    arbiter = host.arbiter
  }

  # Two monitors on each site and the fifth on the witness: three are left whichever site is lost.
  #
  # Four copies, two on each site, on hosts of their own, and two are enough to write: whichever site is lost, the other one has all data and goes on. Ceph knows
  # of sites by the crush block, and the pool's rule takes two hosts of each. A third host with OSDs on either site changes nothing about that.
  #
  # size and min_size of the task are for pools that Ceph makes by itself, such as the managers'. These spread over hosts, not over sites: on four hosts with OSDs
  # each has a copy.
  task "ceph_init" "storage" {
    network         = var.ceph_network
    cluster_network = var.ceph_cluster_network
    version         = "squid"
    repository      = "no-subscription"
    size            = 4
    min_size        = 2
    mons            = ["a1", "a2", "b1", "b2", "witness"]
    mgrs            = ["a1", "b1", "witness"]

    crush {
      kind      = "datacenter"
      locations = { for n in local.nodes : n.name => "site-${n.vars.site}" if n.vars.site != "c" }
    }

    pool "vm" {
      size              = 4
      min_size          = 2
      crush_rule        = "two_on_each_site"
      failure_domain    = "datacenter"
      copies_per_domain = 2
      storage           = true
    }
  }

  # A guest for each site. It may have moved since it was made, so the whole cluster is asked whether it exists.
  task "command" "guest_a" {
    hosts  = cluster.stretched.a1
    run    = "qm create 100 --name app-a --memory 2048 --scsihw virtio-scsi-single --scsi0 vm:32 --ostype l26"
    unless = "grep -q '\"100\":' /etc/pve/.vmlist"
  }

  task "command" "guest_b" {
    hosts  = cluster.stretched.b1
    run    = "qm create 200 --name app-b --memory 2048 --scsihw virtio-scsi-single --scsi0 vm:32 --ostype l26"
    unless = "grep -q '\"200\":' /etc/pve/.vmlist"
  }

  task "ha_resource" "apps_run" {
    resources = ["vm:100", "vm:200"]
    state     = "started"
  }

  # They return when their site does.
  task "ha_group" "site-a" {
    nodes      = local.prefer_a
    resources  = ["vm:100"]
    restricted = true
  }

  task "ha_group" "site-b" {
    nodes      = local.prefer_b
    resources  = ["vm:200"]
    restricted = true
  }
}
