# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by deb and disk: where the host takes its Debian packages from

codename() { (. /etc/os-release && echo "${VERSION_CODENAME:-}"); }
# The host's entries for Debian's own archive, which is what names its codename: URI SUITE COMPONENT, one a line
debian_archive() {
	# shellcheck disable=SC2016	# for apt
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		awk -v c="$(codename)" '($2 == c || index($2, c "-") == 1) && $3 == "main" { print; n++ } END { exit !n }' | sort -u ||
		die "no Debian mirror found in the host's apt configuration"
}
