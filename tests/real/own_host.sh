#!/usr/bin/env bash
# own_host.sh HOST[,HOST...] COMMAND...
# Runs a command in a network, mount and process namespace of its own, where the hosts are 127.0.0.1 and have a certificate
# that a throw-away authority signed: CERT and KEY for whoever listens on 443, everything else trusts it. So a client meets
# the vendor's own name with nothing in it changed, and nothing can reach the real one by mistake: there is no way out.
#
# CERTIFI: files of trusted certificates to replace, for clients that look nowhere else. LIMIT: seconds, 120 by default.
# Needs root, unshare, ip and openssl.
set -euo pipefail

if [ -z "${OWN_HOST:-}" ]; then
  OWN_HOST=$(mktemp -d)
  export OWN_HOST
  trap 'rm -rf "$OWN_HOST"' EXIT
  timeout "${LIMIT:-120}" unshare --net --mount --pid --fork --mount-proc --kill-child=KILL "$0" "$@"
  exit
fi

hosts=$1
shift
ip link set lo up
{ cat /etc/hosts; printf '127.0.0.1 %s\n' ${hosts//,/ }; } >"$OWN_HOST/hosts"
mount --bind "$OWN_HOST/hosts" /etc/hosts

key() { openssl "$@" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes 2>/dev/null; }
key req -x509 -days 2 -subj '/CN=test authority' -addext basicConstraints=critical,CA:TRUE \
  -keyout "$OWN_HOST/ca.key" -out "$OWN_HOST/ca.pem"
key req -subj '/CN=test host' -keyout "$OWN_HOST/key.pem" -out "$OWN_HOST/request.pem"
openssl x509 -req -in "$OWN_HOST/request.pem" -CA "$OWN_HOST/ca.pem" -CAkey "$OWN_HOST/ca.key" -days 2 \
  -extfile <(printf 'subjectAltName=DNS:%s\n' "${hosts//,/,DNS:}") -out "$OWN_HOST/cert.pem" 2>/dev/null

bundle=$OWN_HOST/bundle.pem
cat /etc/ssl/certs/ca-certificates.crt "$OWN_HOST/ca.pem" >"$bundle"
export CERT=$OWN_HOST/cert.pem KEY=$OWN_HOST/key.pem
export SSL_CERT_FILE=$bundle REQUESTS_CA_BUNDLE=$bundle CURL_CA_BUNDLE=$bundle
unset HTTPS_PROXY HTTP_PROXY ALL_PROXY https_proxy http_proxy all_proxy
for file in ${CERTIFI:-}; do mount --bind "$bundle" "$file"; done
"$@"
