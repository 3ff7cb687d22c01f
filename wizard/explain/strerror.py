"""Error numbers by the words that a message has for them: strerror(3) of glibc 2.36, in English and in the languages of its locales.

QEMU and libvirt print the words of the locale they run in; the number behind them is the same, and decides between the causes of one message.
"""

from __future__ import annotations

import errno
import os
from functools import cache

TRANSLATED = {
    "EPERM": (
        "A művelet nem engedélyezett|Actie is niet toegestaan|Die Operation ist nicht erlaubt|L’operació no és permesa"
        "|Operace není povolena|Operacija neleidžiama|Operacija ni dovoljena|Operacija nije dopuštena|Operacio ne permesatas"
        "|Operación no permitida|Operación non permitida|Operacja niedozwolona|Operasi tidak diijinkan"
        "|Operasjonen er ikke tillatt|Operationen er ikke tilladt|Operationen inte tillåten|Operazione non permessa"
        "|Operação não permitida|Operácia nie je povolená|Opération non permise|Thao tác không được phép|Toiminto ei ole sallittu"
        "|İşleme izin verilmedi|Η λειτουργία δεν επιτρέπεται|Действието не е позволено|Дію заборонено|Операция не позволена"
        "|Радња није допуштена|дзеяньне не дазволена|不允许的操作|此項操作並不被允許|許可されていない操作です|명령을 허용하지 않음"
    ),
    "ENOENT": (
        "Adresár alebo súbor neexistuje|Adresář nebo soubor neexistuje|Arquivo ou diretório inexistente"
        "|Aucun fichier ou dossier de ce type|Bestand of map bestaat niet|Böyle bir dosya ya da dizin yok"
        "|Datei oder Verzeichnis nicht gefunden|Datoteka ali imenik s tem imenom ne obstaja|Dosiero aŭ dosierujo ne ekzistas"
        "|El fitxer o directori no existeix|Ficheiro ou pasta inexistente|File o directory non esistente"
        "|Filen eller katalogen finns inte|Ingen slik fil eller filkatalog|Ingen sådan fil eller filkatalog"
        "|Không có tập tin hoặc thư mục như vậy|Necun tal file o directorio|Nema takve datoteke ili direktorija"
        "|Nie ma takiego pliku ani katalogu|Nincs ilyen fájl vagy könyvtár|No existe el fichero o el directorio"
        "|Non hai tal ficheiro ou directorio|Tidak ada berkas atau direktori seperti itu|Tiedostoa tai hakemistoa ei ole"
        "|Toks failas ar aplankas neegzistuoja|Δεν υπάρχει τέτοιο αρχείο ή κατάλογος|Нема такве датотеке или директоријума"
        "|Немає такого файла або каталогу|Нет такого файла или каталога|Няма такога файла ці каталога"
        "|Няма такъв файл или директория|そのようなファイルやディレクトリはありません"
        "|沒有此一檔案或目錄|没有那个文件或目录|그런 파일이나 디렉터리가 없습니다"
    ),
    "EIO": (
        "Błąd wejścia/wyjścia|Chyba vstupu/výstupu|Eingabe-/Ausgabefehler|Eraro de en-eligo|Erreur d'entrée/sortie"
        "|Erro de Entrada/saída|Erro de entrada/saída|Error de entrada/salida|Error d’Entrada/Sortida|Errore di input/output"
        "|Girdi/Çıktı hatası|I/O-virhe|In/ut-fel|Inddata/uddata-fejl|Inn/ut-feil|Invoer-/uitvoerfout|Kimeneti/bemeneti hiba"
        "|Lỗi vào/ra|Ulazno/izlazna greška|Vhodno/izhodna napaka|error Masukan/Keluaran|Įvedimo/išvedimo klaida"
        "|Σφάλμα εισόδου/εξόδου|Входно-изходна грешка|Ошибка ввода/вывода|Памылка ўводу-вываду|Помилка введення-виведення"
        "|Улазно/излазна грешка|入力/出力エラーです|輸入/輸出錯誤|输入/输出错误|입력/출력 오류"
    ),
    "ENODEV": (
        "Aucun périphérique de ce type|Böyle bir aygıt yok|Dispositivo inexistente|El dispositiu no és vàlid|Enheten finns inte"
        "|Ingen slik enhet|Ingen sådan enhed|Kein passendes Gerät gefunden|Không có thiết bị như vậy|Laitetta ei ole"
        "|Nema takvog uređaja|Nessun device corrisponde|Nie ma takiego urządzenia|Nincs ilyen eszköz|No existe el dispositivo"
        "|Non hai tal dispositivo|Onjuist apparaat|Takové zařízení neexistuje|Také zariadenie neexistuje"
        "|Takšna naprava ne obstaja|Tidak ada perangkat seperti itu|Tiu aparato ne ekzistas|Tokio įrenginio nėra"
        "|Δεν υπάρχει τέτοια συσκευή|Нема таквог уређаја|Нет такого устройства|Няма такова устройство|Пристрою не знайдено"
        "|прылада ня йснуе|そのようなデバイスはありません|沒有此一裝置|没有那个设备|그런 장치가 없음"
    ),
    "EBUSY": (
        "Aparato aŭ risurco uziĝas|Apparaat of hulpbron is bezig|Aygıt ya da özkaynak meşgul|Az eszköz vagy erőforrás foglalt"
        "|Das Gerät oder die Ressource ist belegt|Dispositivo o recurso ocupado|Dispositivo o risorsa occupata"
        "|Dispositivo ou recurso está ocupado|Dispositivo ou recurso ocupado|El dispositiu o recurs es troba ocupat"
        "|Enheden eller ressourcen optaget|Enhet eller resurs upptagen|Enheten eller ressursen opptatt|Laite tai resurssi varattu"
        "|Naprava ali vir je v rabi|Perangkat atau sumber daya sibuk|Périphérique ou ressource occupé"
        "|Thiết bị hoặc tài nguyên đang bận|Uređaj ili resurs je zauzeti|Urządzenie lub zasoby zajęte"
        "|Zariadenie alebo iný zdroj je používané|Zařízení nebo zdroj jsou používány|Įrenginys ar resursas užimtas"
        "|Συσκευή ή πόροι είναι απασχολημένοι|Заето устройство или ресурс|Пристрій або ресурс зайнято|Прылада ці расурс заняты"
        "|Уређај или извориште је заузето|Устройство или ресурс занято"
        "|デバイスもしくはリソースがビジー状態です|裝置或系統資源忙碌中|设备或资源忙|장치나 자원이 동작 중"
    ),
    "EACCES": (
        "Adgang nægtet|Brak dostępu|Engedély megtagadva|Erişim engellendi|Ijin ditolak|Ikke tilgang|Keine Berechtigung"
        "|Không đủ quyền truy cập|Lupa evätty|Mankas permeso|Operace zamítnuta|Permesso negato|Permiso denegado"
        "|Permission non accordée|Permissão negada|Permissão recusada|Pristup je odbijen|Prístup odmietnutý"
        "|S’ha denegat el permís|Toegang geweigerd|Åtkomst nekas|Άρνηση πρόσβασης|Відмовлено у доступі|Овлашћење је одбијено"
        "|Отказан достъп|Отказано в доступе|бракуе правоў|拒絕不符權限的操作|权限不够|許可がありません|허가 거부"
    ),
    "ENOMEM": (
        "Bellek ayrılamadı|Impossibile allocare memoria|Impossível alocar memória|Kan ikke tildele hukommelse"
        "|Kan ikke tildele minne|Kan inte allokera minne|Không thể cấp phát bộ nhớ|Mankas sufiĉa memoro"
        "|Muistin varaaminen ei onnistu|Ne peut allouer de la mémoire|Nelze alokovat paměť|Nem foglalható memória"
        "|Nema dovoljno memorije|Nepavyko išskirti atminties|Nicht genügend Hauptspeicher verfügbar|Nie je možné prideliť pamäť"
        "|Nie można przydzielić pamięci|No se pudo asignar memoria|No s’ha pogut reservar memòria|Non se pode reservar memoria"
        "|Não foi possível alocar memória|Onvoldoende geheugen beschikbaar|Pomnilnika ni mogoče dodeliti"
        "|Tidak dapat mengalokasikan memori|Δεν είναι δυνατό να δεσμευτεί μνήμη|Не вдалося розподілити пам’ять"
        "|Не могу да доделим меморију|Не може да се задели памет|Невозможно выделить память|немагчыма разьмеркаваць памяць"
        "|メモリを確保できません|无法分配内存|無法配置記憶體|메모리를 할당할 수 없습니다"
    ),
    "EFAULT": (
        "Adres hatalı|Alamat buruk|Blogas adresas|Błędny adres|Chybná adresa|Dirección incorrecta|Enderezo incorrecto"
        "|Endereço inválido|Felaktig adress|Hibás cím|Indirizzo errato|Loša adresa|L’adreça no és vàlida|Mau endereço"
        "|Mauvaise adresse|Nepravilni naslov|Nevalida adreso|Ongeldig adres|Ugyldig adresse|Ungültige Adresse|Virheellinen osoite"
        "|Địa chỉ sai|Εσφαλμένη διεύθυνση|Лоша адреса|Неправилен адрес|Неправильна адреса|Неправильный адрес|дрэнны адрас"
        "|不正なアドレスです|錯誤的位址|错误的地址|주소가 잘못됨"
    ),
    "EEXIST": (
        "A fájl már létezik|Arquivo existe|Berkas telah ada|Bestand bestaat al|Datoteka postoji|Datoteka že obstaja"
        "|Die Datei existiert bereits|Dosiero jam ekzistas|Dosya var|El fichero ya existe|El fitxer ja existeix"
        "|Failas jau egzistuoja|File già esistente|Filen eksisterer|Filen existerar|Le fichier existe|O ficheiro existe"
        "|O ficheiro xa existe|Plik istnieje|Soubor již existuje|Súbor existuje|Tiedosto on olemassa|Tập tin đã sẵn có"
        "|Το αρχείο υπάρχει|Датотека постоји|Файл вже існує|Файл существует"
        "|Файл існуе|Файлът съществува|ファイルが存在します|文件已存在|檔案已存在"
        "|파일이 있습니다"
    ),
    "EINVAL": (
        "Argomento non valido|Argumen tidak valid|Argument invalide|Argumento inválido|Das Argument ist ungültig|Geçersiz argüman"
        "|Inkoresha siyo|L’argument passat no és vàlid|Neprípustný argument|Nepřípustný argument|Netinkamas argumentas"
        "|Nevalida argumento|Nevaljani argument|Neveljavni argument|Ogiltigt argument|Ongeldig argument|Parámetro incorrecto"
        "|Ugyldig argument|Ugyldigt argument|Virheellinen argumentti|Zły argument|Érvénytelen argumentum|Đối số không hợp lệ"
        "|Μη έγκυρη παράμετρος|Недопустимый аргумент|Неисправан аргумент|Некоректний аргумент|Неправилен аргумент|不適用的引數|无效的参数"
        "|無効な引数です|부적절한 인수"
    ),
    "ENOTTY": (
        "Aygıt için G/Ç kontrol işlemi uygun değil|Controlo de E/S inapropriado para o dispositivo"
        "|Función ioctl no apropiada para el dispositivo|Helytelen ioctl hívás az eszköznek"
        "|Ioctl() inapproprié pour un périphérique|Laitteelle sopimaton ioctl|L’operació ioctl() no s’adequa al dispositiu"
        "|Neprikladan ioctl za uređaj|Neprimeren ioctl za napravo|Netinkamas ioctl įrenginiui|Nevalida 'ioctl' por aparato"
        "|Nevhodný ioctl pre toto zariadenie|Niewłaściwy ioctl dla urządzenia|Olämplig ioctl för enheten"
        "|Ongepaste ioctl() voor apparaat|Pro toto zařízení nevhodné ioctl|Uegnet 'ioctl' for enhed|Uegnet «ioctl» for enhet"
        "|Unpassender IOCTL (I/O-Control) für das Gerät|iocl untuk perangkat tidak sesuai|ioctl inapropiado para o dispositivo"
        "|ioctl inapropriado para dispositivo|ioctl không thích hợp với thiết bị|ioctl non appropriata per il device"
        "|Ακατάλληλο ioctl για συσκευή|Неналежна дія з керування введенням-виведенням (ioctl) для пристрою"
        "|Неодговарајуће „ioctl“ за уређај|Неподходящ ioctl за устройството|Неприменимый к данному устройству ioctl"
        "|デバイスに対する不適切なioctlです|不希望的裝置輸出入控制 (ioctl)|对设备不适当的 ioctl 操作|장치에 대해 부적절한 ioctl"
    ),
    "ENOSPC": (
        "Aucun espace disponible sur le périphérique|Auf dem Gerät ist kein Speicherplatz mehr verfügbar"
        "|Aygıt üzerinde boş yer yok|Brak miejsca na urządzeniu|Enheten är full|Geen ruimte meer over op apparaat"
        "|Ikke mer plass på enheten|Ikke mere plads på enheden|Không có đủ chỗ trống trên thiết bị"
        "|Laitteella ei ole tilaa jäljellä|Na napravi ni več prostora|Na zariadení už nie je žiadne miesto"
        "|Na zařízení není volné místo|Ne haviĝas plu da spaco sur aparato|Nema više prostora na uređaju"
        "|Nincs több hely a lemezen|No queda espacio en el dispositivo|No resta espai al dispositiu"
        "|Non hai espacio libre no dispositivo|Não há espaço disponível no dispositivo|Sem espaço livre no dispositivo"
        "|Spazio esaurito sul device|Tidak ruang lagi diperangkat|Įrenginyje neliko vietos|Δεν έμεινε καθόλου χώρος στη συσκευή"
        "|На устройстве не осталось свободного места|Недостатньо місця на пристрої|Није преостало простора на уређају"
        "|Няма месца на прыладзе|Няма свободно място на устройството"
        "|デバイスに空き領域がありません|裝置上已無多餘空間|设备上没有空间|장치에 남은 공간이 없음"
    ),
    "EAGAIN": (
        "Die Ressource ist zur Zeit nicht verfügbar|El recurs no es troba disponible temporalment"
        "|Erőforrás átmenetileg nem érhető el|Hulpbron is tijdelijk onbeschikbaar|Prostředek je dočasně nepřístupný"
        "|Recurso no disponible temporalmente|Recurso non dispoñible temporalmente|Recurso temporariamente indisponível"
        "|Ressource temporairement non disponible|Ressursen midlertidig utilgjengelig|Resurs je privremeno nedostupni"
        "|Resursas laikinai neprieinamas|Resursen midlertidig utilgængelig|Resursen tillfälligt otillgänglig"
        "|Resurssi ei tilapäisesti ole käytettävissä|Risorsa temporaneamente non disponibile|Risurco dumtempe ne disponeblas"
        "|Sumber daya sementara tidak tersedia|Tài nguyên tạm thời không sẵn sàng|Vir začasno ni na razpolago"
        "|Zasoby chwilowo niedostępne|Zdroj je dočasne neprístupný|Özkaynak geçici olarak kullanılamaz durumda"
        "|Ο πόρος είναι προσωρινά μη διαθέσιμος|Временно недостъпен ресурс|Извориште је тренутно недоступно"
        "|Ресурс временно недоступен|Ресурс тимчасово недоступний"
        "|リソースが一時的に利用できません|資源暫時無法取得|资源暂时不可用|자원이 일시적으로 사용 불가능함"
    ),
    "ETIMEDOUT": (
        "A conexión espirou|Baigėsi prisijungimo laukimo laikas|Bağlantıda zaman aşımı|Connessione scaduta"
        "|Connexion terminée par expiration du délai d'attente|Die Wartezeit für die Verbindung ist abgelaufen"
        "|Expiró el tiempo de conexión|Förbindelsens tidsgräns löpte ut|Időtúllépés a kapcsolatban|Koneksi kehabisan waktu"
        "|Konekto transpasis limtempon|Kết nối đã quá hạn|La connexió ha expirat|Ligação expirada"
        "|Opkoblingen overskred tidsgrænsen|Oppkoblingen overskred tidsgrensen|Przekroczony czas oczekiwania na połączenie"
        "|Spojení bylo příliš dlouho neaktivní|Tempo esgotado para conexão|Verbinding is verlopen"
        "|Veza je prekinuta zbog ograničenja vremena čekanja nsa odgovor|Yhteys aikakatkaistu|Časový limit pre spojenie vypršal"
        "|Λήξη σύνδεσης|Время ожидания соединения истекло|Истекло је време везе|Перевищено інтервал очікування з'єднання"
        "|Просрочена мрежова операция|接続がタイムアウトしました|连接超时|連線超過時間|연결 시간 초과"
    ),
    "EOPNOTSUPP": (
        "A művelet nem támogatott|Actie wordt niet ondersteund|Die Operation wird nicht unterstützt"
        "|La operación no está soportada|No es permet l’ús de l’operació|Operace není podporována|Operacija nepalaikoma"
        "|Operacija ni podprta|Operacija nije podržana|Operacio ne subtenatas|Operación non soportada|Operacja nie obsługiwana"
        "|Operasi tidak didukung|Operasjonen er ikke støttet|Operationen er ikke understøttet|Operationen stöds ej"
        "|Operazione non supportata|Operação não suportada|Operação sem suporte|Operácia nie je podporovaná"
        "|Opération non supportée|Thao tác không được hỗ trợ|Toiminto ei ole tuettu|İşlem desteklenmiyor"
        "|Η λειτουργία δεν υποστηρίζεται|Дія не підтримується|Неподдерживаемая операция|Неподдържана операция|Радња није подржана"
        "|サポートされていない操作です|不支持的操作|此項操作並不被支援|명령을 지원하지 않음"
    ),
}
"""Name of the error number -> its words in other languages, joined by ``|``; those that decide between causes."""

_LONGEST = 120  # characters of a message that are looked at for the words of an error


@cache
def _words() -> dict[str, list[tuple[str, str]]]:
    """First letter -> words and name, the longest first, all lower case: some programs begin them small."""
    found = {words.lower(): name for name, joined in TRANSLATED.items() for words in joined.split("|")}
    # Several names may have one number (EOPNOTSUPP, ENOTSUP): the last one in alphabetical order is what errorcode keeps.
    found |= {os.strerror(number).lower(): _name(number) for number in errno.errorcode}
    by_letter: dict[str, list[tuple[str, str]]] = {}
    for words, name in sorted(found.items(), key=lambda item: -len(item[0])):
        by_letter.setdefault(words[0], []).append((words, name))
    return by_letter


def _name(number: int) -> str:
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else "EAGAIN" if number == errno.EAGAIN else errno.errorcode[number]


def name_of(number: int) -> str | None:
    """``EINVAL`` of 22 or -22; None for a number that is no error of Linux."""
    return _name(abs(number)) if abs(number) in errno.errorcode else None


def read_error(text: str) -> tuple[str, int] | None:
    """The error that a text begins with: its name, and how many characters its words take. None where it begins with none."""
    start = text[:_LONGEST].lower()
    for words, name in _words().get(start[:1], ()):
        if start.startswith(words):
            return name, len(words)
    return None


def meaning(name: str) -> str:
    """The English words of a name."""
    return os.strerror(getattr(errno, name))
