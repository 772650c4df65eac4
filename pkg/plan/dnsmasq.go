package plan

// DNSProof is the name under which a node's dnsmasq answers which file of ours it has
// read, as a TXT record. The domain internal is nobody's (ICANN, 2024).
const DNSProof = "config.pgctrl.internal"
