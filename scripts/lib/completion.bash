_smmu_wizard_functions() { compgen -W "$(_smmu_wizard_names functions "${COMP_WORDS[@]}")" -- "$1"; }
_smmu_wizard_smmus() { compgen -W "$(_smmu_wizard_names smmus "${COMP_WORDS[@]}")" -- "$1"; }
_smmu_wizard_subjects() { _smmu_wizard_functions "$1"; _smmu_wizard_smmus "$1"; }
_smmu_wizard_vms() { compgen -W "$(_smmu_wizard_names vms)" -- "$1"; }
_smmu_wizard_filters() { compgen -W "accel:yes accel:no accel:unknown cap: class: driver: group: id: name: node: smmu:" -- "$1"; }
_smmu_wizard_given() { # NAME=FUNCTION,FUNCTION...
  case "$1" in *=*) ;; *) return;; esac
  local last="${1##*[=,]}"
  compgen -P "${1%"$last"}" -W "$(_smmu_wizard_names functions "${COMP_WORDS[@]}")" -- "$last"
}

# readline breaks words at ":" and "=": an address is one word to the program, and so is NAME=FUNCTION.
_smmu_wizard() {
  local line="${COMP_LINE:0:COMP_POINT}" word kept
  case "$line" in
  ""|*[\"\'\\]*) ;; # quoted: as readline has it
  *)
    read -ra COMP_WORDS <<< "$line"
    case "$line" in *[[:space:]]) COMP_WORDS+=("");; esac
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in --*=*) COMP_WORDS[COMP_CWORD]="${word%%=*}" COMP_WORDS+=("${word#*=}") COMP_CWORD=$((COMP_CWORD + 1));; esac
    word="${COMP_WORDS[COMP_CWORD]}"
    ;;
  esac
  _shtab_smmu_wizard
  kept="${word%"${word##*[$COMP_WORDBREAKS]}"}"
  [ -z "$kept" ] || COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}
