#!/bin/sh
# What compose.yaml's operators would type and write before anything starts; done once.
set -eu
test -e coordinator && exit 0
presspool demo --outlets 3 --out made
for name in oldermoor-courier brackwell-herald fennport-gazette; do
    mkdir -p "$name"
    cp "made/newsroom/outlets/$name.parquet" "$name/readers.parquet"
    printf 'name = "%s"\ndata = "readers.parquet"\npolicy = "policy.toml"\nledger = "ledger.db"\n' \
        "$name" > "$name/outlet.toml"
    # The made run draws few readers a step, so that little noise is enough; nobody sits here to approve.
    presspool outlet policy example |
        sed 's/^min_noise_multiplier = .*/min_noise_multiplier = 0.5/; s/^manual_approval = .*/manual_approval = false/' \
        > "$name/policy.toml"
done
presspool coordinator init --name press-pool --address "${ADDRESS:-coordinator:7443}"
for name in oldermoor-courier brackwell-herald fennport-gazette; do
    presspool coordinator invite "$name" --out "$name.token"
done
