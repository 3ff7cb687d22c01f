# Names of a host for completion, by the shell alone: the program takes 50 ms to begin, and TAB is pressed again and again. It ends within a
# second, says nothing when it fails, and gives only names that need no quotes, whatever a snapshot holds.
_smmu_wizard_names() { # functions|smmus|vms WORD-OF-THE-LINE...
  local kind="$1" root="" file="" before="" word
  shift
  for word in "$@"; do
    case "$before" in --root) root="$word";; --replay) file="$word";; esac
    case "$word" in --root=*) root="${word#*=}";; --replay=*) file="${word#*=}";; esac
    before="$word"
  done
  case "$root$file" in [~]/*) root="${root:+$HOME/${root#*/}}" file="${file:+$HOME/${file#*/}}";; esac
  timeout 1 sh -c '
    address="[0-9a-f]\{4,8\}:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]\.[0-7]"
    smmu="smmu3*\.0x[0-9a-f]*\|dmar[0-9]*\|ivhd[0-9]*"
    case $1 in
    vms) pgrep -a "^qemu" | sed -n "s/.* -name \(guest=\)\{0,1\}\([A-Za-z0-9._-]\{1,64\}\).*/\2/p"; exit;;
    functions) key=address name=$address place=sys/bus/pci/devices;;
    smmus) key=name name=$smmu place=sys/class/iommu;;
    esac
    if [ -z "$3" ]; then
      ls "${2:-}/$place" | grep -x "$name"
    elif [ -f "$3" ]; then
      case $3 in *.gz) gzip -dc -- "$3";; *.xz) xz -dc -- "$3";; *) cat -- "$3";; esac | head -c 67108864 |
        LC_ALL=C grep -ao "\"$key\" *: *\"\($name\)\"" | cut -d "\"" -f 4 | LC_ALL=C sort -u
    fi' sh "$kind" "$root" "$file" 2> /dev/null < /dev/null
}
