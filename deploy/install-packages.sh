#!/usr/bin/env bash
# Installs the Debian packages that a purpose needs, and starts no service that they bring.
#
#   deploy/install-packages.sh PURPOSE...      build | test
#
# Silent and quick where nothing is missing; needs root only where something is.
set -euo pipefail

# clang and libbpf's headers make the XDP object; libbpf1 is what the relay itself loads; gcc and Python's headers compile
# the control plane.
build=(clang llvm libbpf-dev libbpf1 linux-libc-dev make gcc libc6-dev python3 python3-dev python3-venv)
# The laboratory: namespaces, a SIP proxy, telephones, a capture, and the relay to compare with; a reader of man pages;
# openssl makes certificates; bpftool, by which a bench finds a program's tables; routers; Redis, which carries calls
# between relays.
test=(bpftool iproute2 nftables ethtool util-linux kamailio kamailio-lwsc-modules sip-tester tshark openssl rtpengine-daemon groff-base
	bird2 redis-server redis-sentinel systemd)

wanted=()
for purpose in "$@"; do
	case $purpose in
	build) wanted+=("${build[@]}") ;;
	test) wanted+=("${test[@]}") ;;
	*) echo "usage: $0 build|test..." >&2; exit 2 ;;
	esac
done

missing=()
for package in "${wanted[@]}"; do
	[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
		missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || { echo "Packages are missing: ${missing[*]}. Install them as root." >&2; exit 1; }
	echo "sudo is needed to install Debian packages."
	exec sudo "$0" "$@"
fi
echo "Installing Debian packages: ${missing[*]}"

# policy-rc.d is Debian's way to say that no service starts while packages are being installed.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
patience=(-o DPkg::Lock::Timeout=120) # a fresh machine may be upgrading itself
apt-get "${patience[@]}" update -qq
apt-get "${patience[@]}" install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

# Nor at the next boot: these are here to be started by tests, on addresses of their own.
for service in kamailio rtpengine-daemon bird redis-server redis-sentinel; do
	case " ${missing[*]} " in
	*" ${service/#bird/bird2} "*) update-rc.d "$service" disable ;;
	esac
done
