# The token comes from the environment and is shown nowhere:
#
#   WEB_TOKEN=example pxrun apply examples/web-hosts --lab --auto-approve

variable "motd" {
  type        = string
  default     = "Welcome"
  description = "The first line that people see."
  validation {
    condition     = length(var.motd) < 80
    error_message = "The line must fit on a screen."
  }
}

locals {
  greeting = "${var.motd} to ${upper("the lab")}"
}

secret "token" { env = "WEB_TOKEN" }

runbook "web" {
  hosts = group.web.hosts

  task "file" "motd" {
    path    = "/etc/motd"
    content = "${local.greeting}, this is ${self.name} (${self.vars.role})\n"
    mode    = "0644"
    tags    = ["files"]
  }

  task "template" "settings" {
    path   = "/etc/web.conf"
    source = "web.conf.tmpl"
    vars   = { port = self.vars.port, peers = [for h in group.web.hosts : h.address if h.name != self.name] }
    tags   = ["files"]
  }

  # Secret content is written with mode 0600 and never shown.
  task "file" "token" {
    path    = "/etc/web.token"
    content = secret.token
  }

  task "command" "note" {
    run  = "logger 'settings of ${self.name} have changed'"
    when = task.settings.changed
  }

  task "command" "kernel" {
    run       = "uname -r"
    read_only = true
  }

  task "assert" "same_kernel" {
    that    = [task.kernel.results[self.name].stdout != ""]
    message = "Every host must tell its kernel."
  }
}
