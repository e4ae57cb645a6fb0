"""Names under which public files hold the canonical columns, and names of columns that leak the target.

All names are spelled as `popularity.data.columns.normalise` leaves them: lower case, letters and digits only. Of two
names in one file, the one further left wins: a name that says it is the track's before one that may be the artist's,
the album's or the playlist's.
"""

from __future__ import annotations

NAMES: dict[str, str] = {
    "track_id": "trackid spotifytrackid spotifyid trackuri spotifytrackuri uri spotifyuri songid songuri id trackurl "
    "spotifytrackurl spotifyurl songurl tracklink spotifylink tracklinks trackhref url link",
    "title": "trackname tracktitle songname songtitle song track trackunicodename nameoftrack nametrack titletrack "
    "title name names tracknames titles songs",
    "artist": "artist artists artistname artistnames trackartist trackartists trackartistname trackartistnames "
    "artistsname artistsnames songartist mainartist primaryartist primaryartistname performer performers singer "
    "singers band musician artistsnamesjoined artist1 artistname1 firstartist",
    "album": "album albumname albumnames trackalbum trackalbumname albumtitle songalbum albums",
    "genre": "genre genres trackgenre trackgenres playlistgenre topgenre artistgenre artistgenres artistsgenres "
    "maingenre songgenre maingenres genrename genrelist",
    "subgenre": "subgenre subgenres playlistsubgenre tracksubgenre",
    "release_date": "releasedate trackalbumreleasedate albumreleasedate trackreleasedate songreleasedate albumdate "
    "datereleased dateofrelease releaseddate released firstreleasedate releaseyear releasedyear albumreleaseyear year "
    "albumyear yearreleased yearofrelease release",
    "explicit": "explicit trackexplicit explicittrack isexplicit explicitlyrics explicitcontent songexplicit",
    "acousticness": "acousticness acous acoustic",
    "danceability": "danceability dance dnce danceable",
    "energy": "energy nrgy",
    "instrumentalness": "instrumentalness instr instrumental",
    "liveness": "liveness liveliness live",
    "speechiness": "speechiness speech spch",
    "valence": "valence audiovalence val positivity happiness happy",
    # and any name that `popularity.data.duration_names` knows, after these
    "duration_ms": "durationms songdurationms trackdurationms trackduration songduration duration ms durationinms "
    "durationsec durationseconds durationinseconds durations durationinsec dur tracklength songlength length "
    "lengthduration lengthms durationmin durationmins durationminutes durationinminutes durationinminms "
    "durationminms time tracktime runtime",
    "loudness": "loudness loudnessdb loud db loudnessindb louddb",
    "tempo": "tempo bpm beatsperminute beatsperminutebpm tempobpm",
    "key": "key keysignature musicalkey songkey chord keynote pitchkey camelot camelotkey",
    "mode": "mode audiomode majorminor keymode",
    "time_signature": "timesignature timesig meter",
    "popularity": "trackpopularity songpopularity spotifytrackpopularity popularitytrack popularitysong popularity "
    "spotifypopularity trackpop songpop pop popularityscore spotifypop",
}

# Exportify (exportify.app) writes its header in the language of the browser. One row per language: German, French,
# Spanish, Italian, Portuguese, Dutch, Swedish, Turkish, Greek, Japanese, Arabic, Chinese (simplified, traditional,
# Cantonese); a name that two languages share stands once.
TRANSLATED: dict[str, str] = {
    "track_id": "URI du titre|URI de la canción|URI della traccia|URI da faixa|Nummer URI|Låtens URI|Parça URI|"
    "URI κομματιού|トラックURI|رابط الأغنية (URI)|曲目 URI|歌 Link",
    "title": "Nom du titre|Nombre de la canción|Nome della traccia|Nome da faixa|Nummernaam|Låtens namn|Parça Adı|"
    "Όνομα κομματιού|トラック名|اسم الأغنية|曲目名称|曲目名稱|歌名",
    "artist": "Künstlername(n)|Nom(s) de l'artiste|Nombre(s) del artista|Nome dell'artista|Nome(s) do artista|"
    "Naam van artiest|Artistens namn|Sanatçı Adı|Όνομα/τα καλλιτέχνη|アーティスト名|أسماء الفنانين|艺人名称|"
    "藝人名稱|Artist 名",
    "album": "Nom de l'album|Nombre del álbum|Nome dell'album|Nome do álbum|Naam van album|Albumets namn|Albüm Adı|"
    "Όνομα άλμπουμ|アルバム名|اسم الألبوم|专辑名称|專輯名稱|專輯名",
    "release_date": "Veröffentlichungsdatum des Albums|Date de sortie de l'album|Fecha de lanzamiento del álbum|"
    "Data di rilascio dell'album|Data de lançamento do álbum|Releasedatum van het album|Albumets releasedatum|"
    "Albüm Çıkış Tarihi|Ημερομηνία κυκλοφορίας άλμπουμ|アルバム発売日|تاريخ إصدار الألبوم|"
    "专辑发行日期|專輯發行日期|專輯發行日",
    "duration_ms": "Track-Dauer (ms)|Durée du titre (ms)|Duración de la canción (ms)|Durata della traccia (ms)|"
    "Duração da faixa (ms)|Nummerduur (ms)|Låtlängd (ms)|Parça Süresi (ms)|Διάρκεια κομματιού (ms)|"
    "トラックの長さ（ミリ秒）|مدة الأغنية (بالمللي ثانية)|曲目时长（毫秒）|曲目長度（毫秒）|曲目時長（毫秒）",
    "explicit": "Explizit|Explicite|Explícito|Esplicito|Explícita|Expliciet|Açık İçerik|Ακατάλληλο|明示的な内容|صريح|"
    "含露骨内容|含露骨內容|家長指引",
    "popularity": "Beliebtheit|Popularité|Popularidad|Popolarità|Popularidade|Populariteit|Popularitet|Popülerlik|"
    "Δημοτικότητα|人気度|الشعبية|热度|熱門度",
    "genre": "Künstler-Genres|Genres de l'artiste|Géneros del artista|Generi dell'artista|Gêneros do artista|"
    "Genres van de artiest|Artistens genrer|Sanatçı Türleri|Είδη καλλιτέχνη|アーティストジャンル|أنواع الفنان|艺人流派|"
    "藝人曲風",
    "danceability": "Tanzbarkeit|Danseabilité|Bailabilidad|Ballabilità|Dançabilidade|Dansbaarheid|Dansbarhet|"
    "Dans Edilebilirlik|Χορευτικότητα|ダンサビリティ|قابلية الرقص|舞蹈性",
    "energy": "Energie|Énergie|Energía|Energia|Energi|Enerji|Ενέργεια|エネルギー|الطاقة|能量",
    "key": "Tonart|Tonalité|Tonalidad|Chiave|Tonalidade|Toonsoort|Ton|Τονικότητα|キー|المفتاح|调性|調性",
    "loudness": "Lautstärke|Volume sonore|Volumen|Volume|Luidheid|Ljudstyrka|Ses Seviyesi|Ένταση|ラウドネス|"
    "مستوى الصوت|响度|響度",
    "mode": "Modus|Modo|Modalità|Läge|Mod|Τρόπος|モード|النمط|调式|調式",
    "speechiness": "Sprachanteil|Parlabilité|Hablado|Linguaggio parlato|Oralidade|Spraakzaamheid|Talighet|"
    "Konuşma Oranı|Ομιλητικότητα|スピーチ性|محتوى الكلام|语音度|語音度",
    "acousticness": "Akustik|Acoustique|Acústica|Acustica|Akoestiek|Akustiklik|Ακουστικότητα|アコースティック性|"
    "الطابع الصوتي|原声性|原音性",
    "instrumentalness": "Instrumentalität|Instrumentalité|"
    "Instrumentalidad|Strumentalità|Instrumentalidade|Instrumentaliteit|"
    "Instrumentalhet|Enstrümantalite|Οργανοκεντρικότητα|インストゥルメンタル性|الطابع الآلي|器乐度|器樂度",
    "liveness": "Lebendigkeit|Vivacité|Vivacidad|Vivacità|Vivacidade|Levendigheid|Livlighet|Canlılık|Ζωντάνια|"
    "ライブ感|الحيوية|现场感|現場感",
    "valence": "Valenz|Valencia|Valenza|Valência|Valentie|Valens|Duygusallık|Θετικότητα|感情値|الإيجابية|情绪效价|"
    "情緒效價",
    "tempo": "Ρυθμός|テンポ|الإيقاع|速度",
    "time_signature": "Taktart|Mesure|Compás|Battuta|Compasso|Maatstreep|Ölçü İşareti|Μέτρο|拍子|توقيع الزمن|拍号|拍號",
}

# What people write themselves: German, French, Spanish, Portuguese, Italian, Turkish, Dutch, Polish, Russian, Korean,
# Japanese, Chinese. Accents do not matter, and what Exportify writes is not repeated.
SPOKEN: dict[str, str] = {
    "title": "Titel|Liedtitel|Songtitel|Lied|Titre|Titre de la chanson|Chanson|Morceau|Título|Título de la canción|"
    "Canción|Música|Nome da música|Título da música|Titolo|Titolo della canzone|Canzone|Brano|Şarkı|Şarkı Adı|Tytuł|"
    "Utwór|Название|Название песни|Название трека|Песня|Трек|제목|곡명|곡 제목|노래|노래 제목|タイトル|曲名|歌曲|"
    "歌曲名|歌曲名称|歌曲名稱",
    "artist": "Künstler|Künstlername|Interpret|Interpreten|Artiste|Artistes|Interprète|Artista|Artistas|Intérprete|"
    "Cantante|Sanatçı|Şarkıcı|Artiest|Wykonawca|Artysta|Исполнитель|Исполнители|Артист|가수|아티스트|アーティスト|"
    "歌手|艺人|藝人|艺术家",
    "album": "Albumtitel|Titre de l'album|Título del álbum|Título do álbum|Titolo dell'album|Альбом|앨범|앨범명|"
    "アルバム|专辑|專輯",
    "genre": "Género|Género musical|Gênero musical|Genre musical|Genere|Genere musicale|Musikrichtung|Tür|Müzik Türü|"
    "Gatunek|Жанр|장르|ジャンル|流派",
    "release_date": "Erscheinungsdatum|Erscheinungsjahr|Veröffentlichungsdatum|Veröffentlichungsjahr|Veröffentlicht|"
    "Jahr|Date de sortie|Année de sortie|Année|Fecha de lanzamiento|Año de lanzamiento|Fecha de publicación|Año|"
    "Data de lançamento|Ano de lançamento|Data di uscita|Data di pubblicazione|Anno di uscita|Anno|Çıkış Tarihi|"
    "Çıkış Yılı|Yıl|Releasedatum|Releasejaar|Jaar|Data wydania|Rok wydania|Дата выхода|Дата релиза|Год выпуска|Год|"
    "발매일|발매년도|연도|発売日|リリース日|发行日期|發行日期|发行时间",
    "acousticness": "Akustizität|Acousticité|Acusticidad|Acusticidade|Acusticità",
    "danceability": "Dansabilité|Danzabilidad|Danzabilità",
    "energy": "Энергия|Энергичность|에너지",
    "speechiness": "Sprechanteil|Parole|Habla|Fala|Parlato",
    "loudness": "Lautheit|Sonoridad|Sonoridade|Intensité sonore|Громкость",
    "tempo": "Темп|템포",
    "popularity": "Popularität|Popülarite|Popularność|Популярность|인기도|人気|流行度",
}

# Functions of the target, or of the day on which it was measured, or of the order in which the file was written.
LEAK_NAMES: dict[str, str] = {
    "popular_or_not": "popularornot target hit ishit popular ispopular",
    "artist_popularity": "artistpopularity artistpop artistspopularity popularityartist popularityartists "
    "artistspop trackartistpopularity",
    "album_popularity": "albumpopularity albumpop popularityalbum",
    "artist_followers": "artistfollowers artistsfollowers followers totalartistfollowers followersartist "
    "artistfollowerstotal artistsfollowerstotal",
    "streams": "streams stream spotifystreams streamcount playcount plays totalstreams dailystreams",
    "views": "views youtubeviews",
    "likes": "likes youtubelikes",
    "comments": "comments",
    "chart_rank": "rank chartrank chart position chartposition peak peakrank peakposition weeksonchart dailyrank "
    "alltimerank",
    "row_number": "rownumber index row rowname rownames unnamed0 unnamed00 x x1 number no sn indexlevel0",
}
